"""datatrove's NGramsDecontFilter: {documents, questions, ngram} on stdin, {seen: one a document, seconds of CPU} as stdout's last line.

Its index is written as its indexer would, whose step needs lighteval's own tasks.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
from datatrove.utils.text import ngrams, simplify_text

asked = json.load(sys.stdin)
config = NGramsDecontConfig(n_grams=asked["ngram"], find_query_ngrams=True)
with tempfile.TemporaryDirectory() as folder:
    decontaminate = NGramsDecontFilter(folder, config)
    hashes = set()
    for question in asked["questions"]:
        words = decontaminate.tokenizer.word_tokenize(simplify_text(question, config.norm_config))
        hashes.update(decontaminate.hash_func(" ".join(run)) for run in ngrams(words, config.n_grams))
    np.array(sorted(hashes), config.hash_config.np_descr).tofile(Path(folder) / "questions.index.hashes")
    decontaminate.load_index_hashes()
    began = time.process_time()
    seen = [decontaminate.filter(Document(text=text, id=str(number))) is not True for number, text in enumerate(asked["documents"])]
    seconds = time.process_time() - began
print(json.dumps({"seen": seen, "seconds": seconds}))
