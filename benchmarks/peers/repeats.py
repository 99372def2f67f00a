"""The suffix array's answer to what codedev.corpus.repeats finds. bench_repeats.py runs it in an environment with pydivsufsort.

    python peers/repeats.py FOLDER WINDOW      FOLDER holds data.npy uint8[bytes] and offsets.npy int64[texts + 1]

The method of Lee et al. 2021 (arXiv 2107.06499, deduplicate-text-datasets): suffix array, common prefixes of neighbours, all of at least
WINDOW bytes; here so that the copy in the first text stays. Writes marks.npy bool[bytes], prints a line of JSON.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from pydivsufsort import divsufsort, kasai

folder, window = Path(sys.argv[1]), int(sys.argv[2])
data, offsets = np.load(folder / "data.npy"), np.load(folder / "offsets.npy")
before = time.process_time()
array = divsufsort(data)
common = kasai(data, array)  # of neighbours: common[i] bytes of suffixes i and i + 1
sorted_at = time.process_time()
group = np.cumsum(np.append(0, common[:-1] < window))  # suffixes whose first bytes are equal
text = np.searchsorted(offsets, array, side="right") - 1
inside = array + window <= offsets[text + 1]  # windows that lie in one text
first = np.full(group[-1] + 1, len(offsets), np.int64)
np.minimum.at(first, group[inside], text[inside])
later = inside & (text > first[group])
edges = np.zeros(len(data) + 1, np.int64)
np.add.at(edges, array[later], 1)
np.add.at(edges, array[later] + window, -1)
marks = edges[:-1].cumsum() > 0
spent = time.process_time() - before
np.save(folder / "marks.npy", marks)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps({"cpu_s": spent, "suffix_array_s": sorted_at - before, "repeated": int(marks.sum()), "peak_mb": peak}))
