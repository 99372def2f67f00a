"""Tables of instructions as data of a run: read, tokenized by the code of `codedev tokenize`, checked before hours are spent on them."""
