"""Which questions of evaluation sets a corpus holds: asked of a finished one (`search.py`), or while one is built (`stage.py`).

What is looked for of a question, and when it counts as seen, stands in `texts.py` and `find.py`; the measure in `kernels/contamination.py`.
"""
