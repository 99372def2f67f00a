"""One page under the lens: `codedev corpus extract`.

find.py      a file, standard input or a record of a web archive -> the bytes of a page
view.py      those -> its text, and each block with its score and why
terminal.py  that -> tables
html.py      that -> a page of its own
"""
