"""What repeats: documents of one URL, lines and paragraphs within and across documents, spans of bytes across documents.

    url.py        documents of one address: one stays                      drops    found/url-*.parquet
    lines.py      lines and paragraphs that stood before                   cuts     found/cuts/lines.parquet, paragraphs.parquet
    substring.py  spans of N bytes or more that an earlier document holds  cuts     found/cuts/substring.parquet
    cuts.py       the cuts, and what they do to documents                  drops    found/repeats-0000.parquet

Barriers in this order, behind identity, exact and near: what they dropped is not looked at. Cuts are spans of the scored text; all of them
are found on that text, none on what another left of it, and `apply_cuts` takes out their union.
"""
