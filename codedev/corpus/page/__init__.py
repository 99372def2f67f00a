"""One page under the lens: `codedev corpus extract`.

apart.py     what is asked for -> what is seen, in a process of its own, which a page may cost
find.py      a file, standard input or a record of a web archive -> the bytes of a page
view.py      those -> its text, and each block with its score and why
seen.py      that as data, for JSON and for
terminal.py  tables
html.py      a page of its own
"""
