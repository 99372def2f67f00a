"""The text of a page in blocks, and what can be counted of them: 500 MB of HTML a second and core.

A block is the longest run of inline content between the boundaries of block-level elements; two `<br>` in a row are a boundary too, and a
`<pre>` is one block whatever it holds. Words of an alphabet are runs of letters and digits; of Chinese and Japanese, two characters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from codedev.kernels.htmltape import INLINE, SKIPPED, TAG, TEXT, Tape, is_space, table_of
from codedev.kernels.wordmarks import compile_marks, marks_of

# Groups of words in classes, ids, roles and the like, by what they say of an element. The order is the model's.
ELEMENT_MARKS = (
    "comment disqus respond^ repl kommentar",
    "nav menu",
    "breadcrumb crumbs",
    "sidebar ^side^ aside rail^ secondary complementary sidenav",
    "footer foot^ bottom colophon fuss contentinfo",
    "header masthead topbar ^top^ ^banner",
    "share sharing social facebook twitter addthis follow whatsapp teilen",
    "related recommend similar popular trending latest mostread readmore morefrom alsolike readnext teaser outbrain taboola recirc more^",
    "^ad^ ^ads^ advert sponsor promo adsense ^dfp adslot adunit werbung anzeige commercial affiliate",
    "widget",
    "subscri newsletter signup login register paywall",
    "cookie consent gdpr privacy modal popup overlay dialog lightbox",
    "article artikel",
    "content inhalt contenido",
    "^body bodytext bodycopy",
    "^post^ posts postbody postcontent",
    "entry",
    "story",
    "^text richtext ^copy^ prose wysiwyg",
    "^main",
    "author byline ^bio^ autor",
    "^date dateline time^ timestamp publish posted datum",
    "^meta ^info^ infos",
    "^tag tags categor topic keyword",
    "caption figure credit photo image gallery slide carousel bild foto",
    "video media audio player",
    "title headline heading titel",
    "subtitle deck standfirst lede lead^ summary intro abstract excerpt dek subhead teasertext",
    "list listing grid ^card tile feed stream archive",
    "^item",
    "pagina pager paging ^prev ^next",
    "search suche",
    "form^ input button btn cta^ submit",
    "hidden hide noprint sronly screenreader offscreen collapse visuallyhidden ^sr^",
    "toolbar tools action utility control option",
    "^tab^ tabs accordion toggle dropdown",
    "toc^ tableofcontents",
    "reference footnote citation source bibliograph ^notes quelle",
    "correction disclaim disclos copyright license legal ^terms imprint",
    "product price cart^ shop^ buy^ rating",
    "review",
    "wrapper container inner outer",
    "layout ^row column ^col^",
    "quote blockquote",
    "code^ highlight syntax",
    "error warning alert notice message",
    "user avatar profile member signature",
    "forum thread answer question vote",
    "embed inline",
    "desc detail",
    "first dropcap",
    "section block component module",
    "transcript lyric recipe ingredient instruction",
    "donat support petition fund",
    "email contact phone address kontakt",
    "lang^ language translate",
    "skip jump scroll",
    "articlebody postbody entrycontent storybody articlecontent articletext maincontent postcontent",
    "print^ download save^ bookmark",
    "stat^ count view^ views likes",
    "logo brand site^ global page^",
    "event calendar location map^",
    "job career company",
    "read^ reading",
)
# The same of words in short texts.
TEXT_MARKS = (
    "^share teilen compartir partager",
    "^comment kommentar comentario commentaire ^repl",
    "copyright rightsreserved ^rechte",
    "cookie gdpr datenschutz",
    "subscrib newsletter abonn suscri",
    "^sign^ signup ^login ^log^ register anmelden passwor",
    "advertis anzeige sponsor werbung publicidad publicit",
    "related recommend similar ^also^ ^youmay mehr^ siehe",
    "^read^ continue weiterlesen ^more^",
    "posted published updated ver^ffentlicht publicado publi",
    "^by^ ^von^ ^por^ ^par^ author",
    "^tags ^tagged categor filed kategorie topics schlagw",
    "^follow folge facebook twitter instagram linkedin youtube pinterest whatsapp telegram",
    "email ^mail",
    "privacy ^terms impressum policy disclaimer",
    "click klick",
    "photo^ image credit getty reuters foto^ bild^ picture",
    "next^ previous ^prev^ n^chste vorherige older newer",
    "january february march^ april june july august september october november december "
    "januar februar juni juli oktober dezember enero febrero janvier",
    "monday tuesday wednesday thursday friday saturday sunday montag dienstag mittwoch donnerstag freitag samstag sonntag",
    "^am^ ^pm^ ^gmt^ ^est^ ^utc^ ^uhr^ ^ago^",
    "views likes votes replies answers ^vor^",
    "download print^ drucken save^ pdf^",
    "watch^ video listen podcast play^",
    "source^ quelle ^via^ fuente",
    "search suche ^menu home^ startseite",
    "price ^buy^ cart^ shop^ shipping",
    "join^ ^free^ offer deal",
    "^the^ ^of^ ^and^ ^to^ ^is^ ^that^ ^der^ ^die^ ^und^ ^das^ ^de^ ^la^ ^que^ ^et^ ^les^ ^el^ ^di^ ^il^",
    "^you^ ^your^ ^our^ ^we^ ^us^",
    "skip^ ^top^ scroll back^",
    "correction editor note^",
)
_ELEMENT, _TEXT = compile_marks(ELEMENT_MARKS), compile_marks(TEXT_MARKS)

# Where a block lies: a bit each for the elements around it.
_PLACES = """
    article main aside nav footer header form table ul ol li figure figcaption blockquote section button details dialog dl td th h1 h2
    h3 h4 h5 h6 pre label a address code p div center span summary caption time b strong em i body
"""
PLACES = _PLACES.split()
HIDDEN, ARIA_HIDDEN, ARTICLE_BODY, ROLE_MAIN = 60, 61, 62, 63  # further bits, of attributes
_PLACE = np.zeros(256, np.uint64)
for _bit, _name in enumerate(PLACES):
    _PLACE[TAG[_name]] |= np.uint64(1 << _bit)
_EMPHASIS, _CODE = table_of("b strong em i"), table_of("code kbd samp tt var")
_ROOTS, _VERBATIM = table_of("html body"), table_of("pre listing xmp plaintext")
_A, _BR, _IMG, _INPUT, _MATH = TAG["a"], TAG["br"], TAG["img"], TAG["input"], TAG["codedev-math"]

# Columns of `counts`.
(CHARS, WORDS, LINK_CHARS, LINK_WORDS, LINKS, CAPITALISED,
 DIGITS, COMMAS, SENTENCES, EMPHASIS, CODE, MATH, BREAKS, IMAGES, INPUTS, FIRST, LAST,
 FOREIGN, SHORT, BARS, LONGEST, COUNTS) = range(22)  # fmt: skip


class Blocks(NamedTuple):
    of_node: np.ndarray  # int32[nodes]: the block of a text node, -1 = none
    first: np.ndarray  # int32[blocks]: the first node with text
    element: np.ndarray  # int32[blocks]: the block-level element around it
    counts: np.ndarray  # int32[blocks, COUNTS]
    text_marks: np.ndarray  # uint64[blocks]: TEXT_MARKS of a short text
    hashes: np.ndarray  # uint64[blocks]: of the letters and digits
    marks: np.ndarray  # uint64[nodes]: ELEMENT_MARKS of an element itself
    places: np.ndarray  # uint64[nodes]: PLACES of an element and all around it
    shape: np.ndarray  # uint64[nodes]: hash of an element's tag and class, and of those around it up to three


_bytes = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_i32, _u64 = numba.int32[::1], numba.uint64[::1]
_SHORT_TEXT = 240  # bytes of a block whose words are looked at


@numba.njit(inline="always")
def _says(data: Any, start: int, end: int, word: Any) -> bool:
    if end - start < len(word):
        return False
    for at in range(len(word)):  # numba knows no all()
        if data[start + at] != word[at]:
            return False
    return True


@numba.njit(inline="always")
def _holds(data: Any, start: int, end: int, word: Any) -> bool:
    """Whether `word` is in data[start:end], blanks in the data passed over."""
    length = len(word)
    for begin in range(start, end - length + 1):
        if data[begin] != word[0]:
            continue
        matched, at = 0, begin
        while at < end and matched < length and at < begin + length + 4:
            if data[at] == word[matched]:
                matched += 1
            elif data[at] != 32:
                break
            at += 1
        if matched == length:
            return True
    return False


def _word(text: str) -> tuple[int, ...]:
    return tuple(text.encode())


_CLASS, _ID, _ROLE, _ITEMPROP, _STYLE, _HIDDEN_NAME, _ARIA = map(
    _word, ("class", "id", "role", "itemprop", "style", "hidden", "aria-hidden")
)
_TESTID, _COMPONENT, _LABEL = map(_word, ("data-testid", "data-component", "aria-label"))
_TRUE, _MAIN, _BODY_PROP, _NONE, _INVISIBLE = map(_word, ("true", "main", "articleBody", "display:none", "visibility:hidden"))


@numba.njit(
    numba.void(_bytes, numba.uint8[::1], _i32, _i32, _i32, numba.int16[::1], _u64, _u64, _u64, _u64),
    nogil=True,
    cache=True,
)
def _mark(data: Any, tag: Any, parent: Any, start: Any, inner: Any, step: Any, found: Any, marks: Any, places: Any, shape: Any) -> None:
    """What the attributes of each element say."""
    prime, one, two = numba.uint64(1099511628211), numba.uint64(1), numba.uint64(2)
    marks[0], places[0], shape[0] = numba.uint64(0), numba.uint64(0), numba.uint64(0)
    own = np.empty(len(tag), np.uint64)  # tag and class of an element alone
    own[0] = numba.uint64(0)
    for node in range(1, len(tag)):
        up = parent[node]
        if tag[node] == TEXT:
            marks[node], places[node], shape[node], own[node] = numba.uint64(0), places[up], shape[up], numba.uint64(0)
            continue
        bits = numba.uint64(0)
        place = places[up] | _PLACE[tag[node]]
        value = (numba.uint64(14695981039346656037) ^ numba.uint64(tag[node])) * prime
        at, stop = numba.uint64(start[node] + 1), numba.uint64(inner[node] - 1)  # without a sign: what may be negative costs a test a byte
        while at < stop and not is_space(data[at]) and data[at] != 47:
            at += one
        while at < stop:
            while at < stop and (is_space(data[at]) or data[at] == 47):
                at += one
            name = at
            while at < stop and (data[at] != 61 or at == name) and not is_space(data[at]):
                at += one
            end = at
            if at + one >= stop or data[at] != 61 or data[at + one] != 34:
                continue
            at += two
            begin = at
            while at < stop and data[at] != 34:
                at += one
            first = data[name]
            word, behind, said, till = numba.int64(name), numba.int64(end), numba.int64(begin), numba.int64(at)
            length = behind - word
            if length == 5 and _says(data, word, behind, _CLASS):
                bits |= marks_of(data, said, min(till, said + 1000), step, found)
                for i in range(said, min(till, said + 200)):
                    byte = data[i]
                    if byte < 48 or byte > 57:  # numbers tell items of a kind apart
                        value = (value ^ numba.uint64(byte)) * prime
            elif (
                (length == 2 and _says(data, word, behind, _ID))
                or (first == 100 and (_says(data, word, behind, _TESTID) or _says(data, word, behind, _COMPONENT)))
                or (length == 10 and _says(data, word, behind, _LABEL))
            ):
                bits |= marks_of(data, said, min(till, said + 200), step, found)
            elif length == 4 and _says(data, word, behind, _ROLE):
                bits |= marks_of(data, said, min(till, said + 200), step, found)
                if _says(data, said, till, _MAIN):
                    place |= numba.uint64(1) << numba.uint64(ROLE_MAIN)
            elif length == 8 and _says(data, word, behind, _ITEMPROP):
                bits |= marks_of(data, said, min(till, said + 200), step, found)
                if _says(data, said, till, _BODY_PROP):
                    place |= numba.uint64(1) << numba.uint64(ARTICLE_BODY)
            elif (length == 6 and _says(data, word, behind, _HIDDEN_NAME)) or (
                length == 5
                and _says(data, word, behind, _STYLE)
                and (_holds(data, said, min(till, said + 500), _NONE) or _holds(data, said, min(till, said + 500), _INVISIBLE))
            ):
                place |= numba.uint64(1) << numba.uint64(HIDDEN)
            elif length == 11 and _says(data, word, behind, _ARIA) and _says(data, said, till, _TRUE):
                place |= numba.uint64(1) << numba.uint64(ARIA_HIDDEN)
            at += one
        marks[node] = numba.uint64(0) if _ROOTS[tag[node]] else bits  # what a body is called says little of its parts
        places[node] = place
        own[node] = value
        above = own[up]
        higher = own[parent[up]] if parent[up] >= 0 else numba.uint64(0)
        shape[node] = ((value * prime) ^ above) * prime ^ higher


@numba.njit(inline="always")
def _is_blank(data: Any, at: int, stop: int) -> bool:
    """Whether only blanks, `&nbsp;` and U+200B are in it."""
    while at < stop:
        if is_space(data[at]):
            at += 1
        elif data[at] == 38 and at + 1 < stop and data[at + 1] == 110:
            while at < stop and data[at] != 59:
                at += 1
            at += 1
        elif data[at] == 0xE2 and at + 2 < stop and data[at + 1] == 0x80 and data[at + 2] == 0x8B:
            at += 3
        else:
            return False
    return True


@numba.njit(inline="always")
def _class_of(data: Any, at: int) -> int:
    """1 capital, 2 small, 3 digit, 4 beyond ASCII, 5 other."""
    byte = data[at]
    if 65 <= byte <= 90:
        return 1
    if 97 <= byte <= 122:
        return 2
    if 48 <= byte <= 57:
        return 3
    return 4 if byte >= 128 else 5


@numba.njit(
    numba.int64(
        _bytes, numba.uint8[::1], _i32, _i32, _i32, _i32, _i32, numba.int16[::1], _u64,
        _i32, _i32, _i32, numba.int32[:, ::1], _u64, _u64,
    ),
    nogil=True,
    cache=True,
)  # fmt: skip
def _split(
    data: Any, tag: Any, parent: Any, after: Any, start: Any, inner: Any, end: Any, step: Any, found: Any,
    of_node: Any, first: Any, element: Any, counts: Any, text_marks: Any, hashes: Any,
) -> Any:  # fmt: skip
    nodes = len(tag)
    for node in range(nodes):
        of_node[node] = -1
    prime, one = numba.uint64(1099511628211), numba.uint64(1)
    blocks = 0
    here = 0  # the block-level element around
    outer = np.zeros(nodes, np.int32)  # and that around it: a walk over `parent` would pass every inline element again
    links = emphasis = code = pre = 0  # the node behind the outermost such element
    fresh = True  # the next text begins a block
    breaks = 0  # <br> since the last text
    images = inputs = 0  # since the last block
    in_word, word_chars, blank, block = False, 0, True, -1
    wide = 0
    text_size = 0
    spelled = np.empty(_SHORT_TEXT, np.uint8)
    node = 1
    while node < nodes:
        while node >= after[here] and here > 0:
            here = outer[here]
            fresh = True
        kind = tag[node]
        if kind != TEXT:
            if SKIPPED[kind]:
                node = after[node]
                continue
            if kind == _BR:
                breaks += 1
                if breaks >= 2 and node >= pre:
                    fresh = True
                elif not fresh and block >= 0:
                    counts[block, BREAKS] += 1
                    blank = True
                    in_word = False
            elif kind == _A:
                links = max(links, after[node])
                if not fresh and block >= 0:
                    counts[block, LINKS] += 1
            elif kind == _IMG:
                images += 1
                if not fresh and block >= 0:
                    counts[block, IMAGES] += 1
            elif kind == _INPUT:
                inputs += 1
            elif _EMPHASIS[kind]:
                emphasis = max(emphasis, after[node])
            elif _CODE[kind]:
                code = max(code, after[node])
            elif kind == _MATH and not fresh and block >= 0:
                counts[block, MATH] += 1
            if not INLINE[kind] and kind != _BR and node >= pre:
                fresh = True
                outer[node] = here
                here = node
                if _VERBATIM[kind]:
                    pre = after[node]
            node += 1
            continue
        # a text
        at, stop = start[node], end[node]
        while at < stop and is_space(data[at]):
            at += 1
        if at == stop or _is_blank(data, at, stop):
            if not blank and stop > start[node]:
                blank, in_word = True, False
            node += 1
            continue
        if fresh:
            block = blocks
            blocks += 1
            fresh = False
            first[block], element[block] = node, here
            for column in range(COUNTS):
                counts[block, column] = 0
            counts[block, IMAGES], counts[block, INPUTS] = images, inputs
            counts[block, LINKS] = 1 if node < links else 0
            counts[block, MATH] = 1 if tag[parent[node]] == _MATH else 0
            counts[block, FIRST] = _class_of(data, at)
            images = inputs = 0
            hashes[block] = numba.uint64(14695981039346656037)
            text_marks[block] = numba.uint64(0)
            blank, in_word, word_chars, wide, text_size = False, False, 0, 0, 0
        elif at > start[node] and not blank:
            blank, in_word = True, False
            counts[block, CHARS] += 1
            if text_size < _SHORT_TEXT:
                spelled[text_size] = 32
                text_size += 1
        breaks = 0
        of_node[node] = block
        chars = words = commas = sentences = digits = foreign = short = capitals = bars = 0
        hashed = hashes[block]
        longest = counts[block, LONGEST]
        last = 0
        place, behind = numba.uint64(at), numba.uint64(stop)  # without a sign, as above
        while place < behind:
            byte = data[place]
            if byte == 38:  # &lt; &gt; &amp; &nbsp;
                if place + one < behind and data[place + one] == 110:
                    byte = 32
                while place < behind and data[place] != 59:
                    place += one
            place += one
            if is_space(byte):
                if not blank:
                    chars += 1
                    if text_size < _SHORT_TEXT:
                        spelled[text_size] = 32
                        text_size += 1
                blank, in_word = True, False
                continue
            if 128 <= byte < 192:
                continue  # the lead has been counted
            blank = False
            chars += 1
            if text_size < _SHORT_TEXT:
                spelled[text_size] = byte
                text_size += 1
            if (byte | 32) >= 97 and (byte | 32) <= 122:
                if not in_word:
                    in_word, word_chars = True, 0
                    words += 1
                    if byte < 97:
                        capitals += 1
                word_chars += 1
                if word_chars <= 3:
                    short += 1 if word_chars == 1 else 0
                elif word_chars == 4:
                    short -= 1
                longest = max(longest, word_chars)
                hashed = (hashed ^ numba.uint64(byte | 32)) * prime
                last = 1
            elif 48 <= byte <= 57:
                if not in_word:
                    in_word, word_chars = True, 4
                    words += 1
                digits += 1
                hashed = (hashed ^ numba.uint64(byte)) * prime
                last = 2
            elif byte >= 192:
                foreign += 1
                hashed = (hashed ^ numba.uint64(byte)) * prime
                if place < behind:
                    hashed = (hashed ^ numba.uint64(data[place])) * prime
                if 0xE3 <= byte <= 0xE9 or byte == 0xEF:
                    in_word = False
                    if byte == 0xE3 and place + one < behind and data[place] == 0x80 and data[place + one] <= 0x82:  # 、 。
                        if data[place + one] == 0x82:
                            sentences += 1
                            last = 3
                        else:
                            commas += 1
                            last = 5
                    elif byte == 0xEF and place < behind and data[place] == 0xBC:  # ！ ， ： ； ？
                        commas += 1
                        last = 3
                    else:
                        wide += 1
                        words += wide & 1
                        last = 1
                elif byte == 0xE2:  # dashes, quotes, bullets
                    in_word = False
                    last = 6
                else:
                    if not in_word:
                        in_word, word_chars = True, 0
                        words += 1
                    word_chars += 1
                    last = 1
            else:
                in_word = in_word and byte == 39
                if byte == 44 or byte == 59:
                    commas += 1
                    last = 5
                elif byte == 46 or byte == 33 or byte == 63:
                    if place >= behind or is_space(data[place]) or data[place] == 34 or data[place] == 60:
                        sentences += 1
                    last = 3
                elif byte == 58:
                    last = 4
                elif byte == 124 or byte == 47 or byte == 62:
                    bars += 1
                    last = 6
                elif byte == 34 or byte == 41 or byte == 39:
                    last = last if last == 3 else 6
                else:
                    last = 6
        hashes[block] = hashed
        counts[block, CHARS] += chars
        counts[block, WORDS] += words
        if node < links:
            counts[block, LINK_CHARS] += chars
            counts[block, LINK_WORDS] += words
        counts[block, CAPITALISED] += capitals
        counts[block, DIGITS] += digits
        counts[block, COMMAS] += commas
        counts[block, SENTENCES] += sentences
        if node < emphasis:
            counts[block, EMPHASIS] += chars
        if node < code or node < pre:
            counts[block, CODE] += chars
        if last:
            counts[block, LAST] = last
        counts[block, FOREIGN] += foreign
        counts[block, SHORT] += short
        counts[block, BARS] += bars
        counts[block, LONGEST] = longest
        text_marks[block] = marks_of(spelled, 0, text_size, step, found) if text_size < _SHORT_TEXT else numba.uint64(0)
        node += 1
    return blocks


@numba.njit(numba.uint64(_bytes), nogil=True, cache=True)
def _hash_of(text: Any) -> Any:
    value = numba.uint64(14695981039346656037)
    for at in range(len(text)):
        byte = text[at]
        letter = byte | 32
        if 97 <= letter <= 122:
            value = (value ^ numba.uint64(letter)) * numba.uint64(1099511628211)
        elif 48 <= byte <= 57:
            value = (value ^ numba.uint64(byte)) * numba.uint64(1099511628211)
        elif byte >= 192:
            value = (value ^ numba.uint64(byte)) * numba.uint64(1099511628211)
            if at + 1 < len(text):
                value = (value ^ numba.uint64(text[at + 1])) * numba.uint64(1099511628211)
    return value


def hash_of(text: str) -> int:
    """What `hashes` holds of a block with this text."""
    return int(_hash_of(np.frombuffer(text.encode("utf-8", "replace"), np.uint8)))


def blocks(tape: Tape) -> Blocks:
    nodes = len(tape.tag)
    texts = int(np.count_nonzero(tape.tag == TEXT))
    of_node = np.empty(nodes, np.int32)
    first, element = np.empty(texts, np.int32), np.empty(texts, np.int32)
    counts = np.empty((texts, COUNTS), np.int32)
    text_marks, hashes = np.empty(texts, np.uint64), np.empty(texts, np.uint64)
    marks, places, shape = (np.empty(nodes, np.uint64) for _ in range(3))
    _mark(tape.data, tape.tag, tape.parent, tape.start, tape.inner, _ELEMENT.step, _ELEMENT.found, marks, places, shape)
    number = _split(
        tape.data, tape.tag, tape.parent, tape.after, tape.start, tape.inner, tape.end, _TEXT.step, _TEXT.found,
        of_node, first, element, counts, text_marks, hashes,
    )  # fmt: skip
    return Blocks(of_node, first[:number], element[:number], counts[:number], text_marks[:number], hashes[:number], marks, places, shape)
