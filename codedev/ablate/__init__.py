"""`codedev corpus ablate`: does a filter help? Variants of a corpus, the same small model trained on as many tokens of each, and bits per
byte of the same held-out documents beside what the variants hold.

    variants.py   a recipe and its changes → recipes
    run.py        corpora, shards, models, measurements, each resumable where it stopped
    figures.py    measurements → means over seeds, paired differences from the base, their intervals
    page.py       one HTML file
"""
