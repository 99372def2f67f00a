"""Alignment: learning from what people, or graders, prefer.

objectives.py   the arithmetic: advantages, clipped losses, divergences
rewards.py      what an answer earns: a reward model, a function, a grader, or their weighted sum
rollout.py      answers sampled from a model, with the probabilities they were drawn with
"""
