"""The default identifier: three witnesses who know different languages, and one verdict.

    lid.176   fastText's model of Wikipedia, SETimes and Tatoeba: 176 languages, weak in those with small Wikipedias
    CLD2      Chromium's tables of the web of 2013: 160 languages, sees English in any borrowed word
    ours      data/languages.ftz, trained on the Universal Declaration of Human Rights, Tatoeba and bibles: what the others lack

Each gives probabilities over its own languages; what it does not know it cannot speak for or against. The score of a language is the
weighted sum of the three logarithms, floored, with a constant for a witness that does not know it. Weights were chosen on texts that the
third was not trained on (UDHR against Tatoeba and bibles, and the other way round), never on NTREX. CLD2 is asked only where lid.176 and
ours do not agree on a language that small ones are hardly taken for: it is the one that needs a Python object a document, and holds the GIL
(0.05 ms each).
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codedev._errors import InputError
from codedev.corpus.buffers import text_buffers
from codedev.corpus.language import models
from codedev.corpus.language.identify import PREFIX_BYTES, Identifier
from codedev.kernels.fasttext import probabilities
from codedev.kernels.normal import COMPOSE, changeable
from codedev.kernels.passages import windows
from codedev.kernels.wordletters import word_letters

VERSION = 2
# What each reads of the first PREFIX_BYTES of a text: windows, evenly spaced, of so many bytes. A page's English head is not its language.
# Twice as much for the first two changes no tag of 880 documents of 75 languages and costs twice the time; half as much for CLD2 changes 8.
PARTS, LID_BYTES, OWN_BYTES, CLD_BYTES = 4, 256, 96, 256
ROWS = 1024  # judged at a time


class Witness(NamedTuple):
    weight: float
    floor: float  # of a probability: what a witness can say against a language, at most
    unknown: float  # logarithm that stands for a language the witness does not know


# Found by random search over texts that the third was not trained on; their accuracy and NTREX's go together (r = 0.96 over 120 draws).
LID, OWN = Witness(1.0, 0.011, -2.64), Witness(1.29, 0.022, -2.58)
CLD, CLD_UNSURE = Witness(2.76, 0.028, -2.43), Witness(0.27, 3.3e-3, -0.66)  # by its own word, where it is not made to guess
GAP, GAP_UNSURE = 0.44, 0.48  # against languages that neither lid.176 nor CLD2 knows: they are rare
# Of the softmax that makes a probability of the sum: mean calibration error 0.07 on held-out lines of Tatoeba, 0.2 on those of UDHR.
SHARPNESS = 1.5
# Bytes of letters in words (kernels/wordletters.py). The share of right tags among those that the three are sure of, single words, pairs
# and sentences of lingua's set: 0.33 at 4, 0.60 at 8, 0.88 at 14, 0.96 at 40; the score is multiplied by 1 - e^(-letters / FEW).
FEW, ENOUGH = 7.0, 40
SURE_LID, SURE_OWN = 0.9, 0.5  # agreement of these two is enough

# Languages whose lid.176 label is hardly ever a smaller relative in disguise: the large ones, those with a script and those with a family
# of their own. Of others CLD2 is asked in any case: without it NTREX loses 1.0%, though the sets that our model has seen lose nothing.
APART = (
    "ar bg cs da de el en es et fi fr he hu it ja ka ko lt lv nl pl pt ro ru sk sv ta te th tr uk ur vi zh "
    "cy dv eo eu gu hy is km kn lo ml mt my or pa si"
).split()

# Labels of each witness that are not the tag: macrolanguages where it does not tell the members apart reliably, old codes.
_LID_TAGS = {"no": "nb", "sh": "sr", "als": "gsw", "arz": "ar", "bh": "bho", "wuu": "zh"}
_CLD_TAGS = {"iw": "he", "jw": "jv", "no": "nb", "zh-Hant": "zh", "ku": "ckb", "bh": "bho", "mo": "ro", "sr-ME": "sr", "sh": "sr"}
_CLD_JOKES = {"un", "tlh", "zzb", "zzp", "zze", "zzh"}
_NOT_TEXT = re.compile(  # CLD2 refuses it
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef" + "".join(rf"\U{plane:04x}fffe\U{plane:04x}ffff" for plane in range(17)) + "]"
)


class _Experts(NamedTuple):
    tags: np.ndarray  # str[languages]: all that any witness knows
    lid: np.ndarray  # int64[labels of lid.176]: the language of each
    own: np.ndarray
    same: np.ndarray  # int64[labels of lid.176]: a label of our own model for the same language, any label where there is none
    known: np.ndarray  # bool[3, languages]
    apart: np.ndarray  # bool[languages]: where agreement of lid.176 and ours is enough
    place: dict[str, int]  # CLD2's code: the language


def _cld2() -> Any:
    try:
        import pycld2
    except ImportError:
        raise InputError("pycld2 is not installed: pip install pycld2; or set `language: {model: lid.176}`") from None
    return pycld2


@functools.cache
def _experts() -> _Experts:
    cld = _cld2()
    names = {name: code for name, code in cld.LANGUAGES if name in cld.DETECTED_LANGUAGES}
    cld_tags = {code: _CLD_TAGS.get(code, code) for code in names.values() if not code.startswith("xx") and code not in _CLD_JOKES}
    lid_tags = [_LID_TAGS.get(label, label) for label in models.load().labels]
    own_tags = list(models.load(models.OWN).labels)
    own_tags = [tag.split("-")[0] for tag in own_tags]  # a label for each script of a language
    tags = sorted({*lid_tags, *own_tags, *cld_tags.values()})
    place = {tag: number for number, tag in enumerate(tags)}
    columns, known = [], np.zeros((3, len(tags)), bool)
    for witness, labels in enumerate((lid_tags, own_tags)):
        columns.append(np.array([place[label] for label in labels]))
        known[witness, columns[-1]] = True
    known[2, [place[tag] for tag in cld_tags.values()]] = True
    same = np.array([own_tags.index(tag) if tag in own_tags else 0 for tag in lid_tags])
    apart = np.isin(tags, APART) & known[1]
    codes = {code: place[tag] for code, tag in cld_tags.items()}
    return _Experts(np.array(tags), columns[0], columns[1], same, known, apart, codes)


def version() -> str:
    return f"{VERSION}:{models.model_hash()}:{models.model_hash(models.OWN)}:{_cld2().__version__}"


def ensemble_identifier(prefix: int = PREFIX_BYTES) -> Identifier:
    """The default identifier. Raises InputError where pycld2 is not installed."""
    experts = _experts()

    def identify(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
        # A slice at a time: a batch may hold half a million short texts, and a row of evidence takes 5 kB.
        judged = [_judge(texts.slice(at, ROWS), experts, prefix) for at in range(0, len(texts), ROWS)] or [_judge(texts, experts, prefix)]
        best, scores = (np.concatenate(values) for values in zip(*judged, strict=True))
        return pa.array(experts.tags[best], pa.string(), mask=scores == 0), pa.array(scores)

    return Identifier(tuple(experts.tags.tolist()), identify)


def evidence(texts: pa.Array, prefix: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of lid.176's labels and of our own model's, float32[texts, labels] each, and how far what was read is words at all,
    float32[texts]; rows of zeros for texts without a word."""
    data, offsets = text_buffers(texts)
    heads = _array(*windows(data, offsets, prefix, PARTS, OWN_BYTES))
    own = probabilities(models.load(models.OWN), *text_buffers(_composed(pc.utf8_lower(heads))), exact=False)
    data, offsets = windows(data, offsets, prefix, PARTS, LID_BYTES)
    letters = word_letters(data, offsets, ENOUGH)
    weight = np.where(letters < ENOUGH, 1 - np.exp(-letters / FEW), 1).astype(np.float32)
    return probabilities(models.load(), data, offsets), own, weight


def _array(data: np.ndarray, offsets: np.ndarray) -> pa.Array:
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data)))


def _composed(texts: pa.Array) -> pa.Array:
    """The texts in NFC: the same array where all are."""
    rows = (changeable(*text_buffers(texts)) & COMPOSE) != 0
    if not rows.any():
        return texts
    mask = pa.array(rows)
    return pc.replace_with_mask(texts, mask, pc.utf8_normalize(texts.filter(mask), form="NFC"))


def _by_language(shares: np.ndarray, columns: np.ndarray, languages: int) -> np.ndarray:
    """float32[texts, languages] from the probabilities of labels; several labels of a language are added up, at most to 1."""
    out = np.zeros((len(shares), languages), np.float32)
    first = np.unique(columns, return_index=True)[1]
    out[:, columns[first]] = shares[:, first]
    for label in np.setdiff1d(np.arange(len(columns)), first).tolist():
        out[:, columns[label]] += shares[:, label]
    np.minimum(out, np.float32(1), out=out)
    return out


def _judge(texts: pa.Array, experts: _Experts, prefix: int) -> tuple[np.ndarray, np.ndarray]:
    """(language numbers, scores float32) of each text; a score of 0 where it has no word."""
    lid, own, words = evidence(texts, prefix)
    label, rows = lid.argmax(1), np.arange(len(texts))
    best, scores = experts.lid[label], np.zeros(len(texts), np.float32)
    certain, seconded = lid[rows, label], own[rows, experts.same[label]]
    sure = experts.apart[best] & (certain >= SURE_LID) & (seconded >= SURE_OWN)
    scores[sure] = np.minimum(certain[sure], np.float32(1))
    asked = np.flatnonzero((certain > 0) & (words > 0) & ~sure)
    if len(asked):
        cld, reliable = chromium(texts.take(pa.array(asked)), experts, prefix)
        lid, own = (_by_language(shares[asked], of, len(experts.tags)) for shares, of in ((lid, experts.lid), (own, experts.own)))
        total = combine(lid, own, cld, reliable, experts.known)
        best[asked] = total.argmax(1)
        scores[asked] = 1 / np.exp((total - total.max(1, keepdims=True)) * SHARPNESS).sum(1)
    return best, scores * words


def chromium(texts: pa.Array, experts: _Experts, prefix: int) -> tuple[np.ndarray, np.ndarray]:
    """CLD2's shares of languages, float32[texts, languages], and whether it calls them reliable. A Python loop over documents: 0.05 ms
    each, all of it CLD2, asked twice where it is unsure: without its best effort it says whether the text looks like its best language,
    with it which one that is."""
    detect, refused = _cld2().detect, _cld2().error
    out, reliable = np.zeros((len(texts), len(experts.tags)), np.float32), np.zeros(len(texts), bool)
    heads = _array(*windows(*text_buffers(texts), prefix, PARTS, CLD_BYTES))
    heads = _composed(heads)
    for row, head in enumerate(heads.cast(pa.large_binary()).to_pylist()):
        try:
            reliable[row], _, found = detect(head)
        except refused:
            head = _NOT_TEXT.sub(" ", head.decode()).encode()
            reliable[row], _, found = detect(head)
        if not reliable[row]:
            _, _, found = detect(head, bestEffort=True)
        for _, code, percent, _ in found:
            if code in experts.place:
                out[row, experts.place[code]] += percent / 100
    return out, reliable


def combine(lid: np.ndarray, own: np.ndarray, cld: np.ndarray, reliable: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The verdict: float32[texts, languages], the highest is the most probable."""
    total: np.ndarray = _said(lid, LID, known[0]) + _said(own, OWN, known[1])
    total += np.where(reliable[:, None], _said(cld, CLD, known[2]), _said(cld, CLD_UNSURE, known[2]))
    total -= np.where(reliable[:, None], np.float32(GAP), np.float32(GAP_UNSURE)) * (~known[0] & ~known[2])
    return total


def _said(shares: np.ndarray, witness: Witness, known: np.ndarray) -> np.ndarray:
    floored = np.log(np.maximum(shares, np.float32(witness.floor)))
    return np.where(known, floored * np.float32(witness.weight), np.float32(witness.weight * witness.unknown))
