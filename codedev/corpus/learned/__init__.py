"""Learned quality: models trained from documents that a recipe names, and scored as columns; thresholds stay in the recipe.

    config.py       the keys of recipes; imports no kernel
    documents.py    which documents are learnt, which are held out
    classifier.py   a fastText classifier of documents      q.learned.<name>
    perplexity.py   an n-gram model of well-written text    q.perplexity, q.perplexity.percentile
    rows.py         which documents a model scores, by kind and language
    files.py        what lies in a model's file, as long as that stays as it is
    train.py        `codedev corpus quality train`
    figures.py      what a model achieves on documents that it has not seen

Word lists and classifiers of toxic language are toxicity.py's, one folder up.
"""
