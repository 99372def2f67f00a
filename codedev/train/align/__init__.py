"""Alignment: learning from what people, or graders, prefer.

examples.py     tables of feedback or prompts as examples to learn from
reward_model.py stage reward: what answers are worth; reward_data.py its rows, reward_head.py its model, reward_look.py its dry run
calibration.py  how far a reward model can be trusted, by held-out examples
scoring.py      a trained reward model at work
objectives.py   the arithmetic: advantages, clipped losses, divergences
rewards.py      what an answer earns: a reward model, a function, a grader, or their weighted sum
rollout.py      answers sampled from a model, with the probabilities they were drawn with
"""
