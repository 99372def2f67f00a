"""What books are made of: encodings, Gutenberg's frame, paragraphs, chapters, HTML and TEI, each against what must come out."""

from __future__ import annotations

import contextlib
import random
import textwrap
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codedev.corpus import encoding
from codedev.corpus.extract import markup, paragraphs
from codedev.corpus.extract.blocks import MarkupError
from codedev.corpus.extract.book import about as book_about
from codedev.corpus.extract.book import asciidoc, gutenberg, tei
from codedev.corpus.extract.book import html as book_html

# --- encoding


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("utf-8", "Grüße aus dem Süden – «voilà»"),
        ("utf-8-sig", "Grüße"),
        ("utf-16", "Alice was beginning"),
        ("utf-16-le", "Alice was beginning to get very tired"),
        ("utf-16-be", "Alice was beginning to get very tired"),
        ("cp1252", "naïve café — “déjà vu” coûte que coûte"),
        ("latin-1", "El ingenioso hidalgo don Quijote: según la razón, señor"),
        ("cp1251", "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. " * 5),
        ("koi8-r", "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. " * 5),
        ("iso8859-2", "Litwo! Ojczyzno moja! ty jesteś jak zdrowie; Ile cię trzeba cenić, ten tylko się dowie, Kto cię stracił. " * 5),
        ("gb18030", "床前明月光，疑是地上霜。举头望明月，低头思故乡。" * 5),
        ("shift_jis", "吾輩は猫である。名前はまだ無い。" * 5),
    ],
)
def test_the_encoding_is_found(name: str, text: str) -> None:
    assert encoding.decode(text.encode(name)).text == text


def test_what_a_text_says_of_its_encoding_decides_where_the_bytes_do_not() -> None:
    text = "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。"
    assert encoding.decode(text.encode("big5"), "Big-5").text == text
    assert encoding.decode("“quoted”".encode("cp1252"), "ISO-8859-1").text == "“quoted”"  # as Windows writes what it calls Latin-1
    assert encoding.decode("Grüße".encode(), "ISO-8859-1").text == "Grüße"  # valid UTF-8 is UTF-8


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(encoding.UndecodableError):
        encoding.decode(random.Random(0).randbytes(5000))


@given(st.binary(max_size=300), st.sampled_from([None, "", "utf-8", "latin1", "rot13", "zlib", "no such", "UTF-16", "\0"]))
@settings(max_examples=300, deadline=None)
def test_decoding_gives_text_or_says_that_it_is_none(data: bytes, declared: str | None) -> None:
    with contextlib.suppress(encoding.UndecodableError):
        encoding.decode(data, declared).text.encode()


# --- Gutenberg

NEW = """The Project Gutenberg EBook of The Title, by An Author

This eBook is for the use of anyone anywhere.

Title: The Title
       Of Two Lines

Author: An Author

Release Date: June 25, 2008 [EBook #11]
Last Updated: October 6, 2016

Language: English

Character set encoding: ISO-8859-1

*** START OF THIS PROJECT GUTENBERG EBOOK THE TITLE
OF TWO LINES ***



Produced by A Volunteer and the Online Distributed
Proofreading Team at http://www.pgdp.net


Transcriber's Note:

The spelling of the original has been kept.

THE TITLE

First sentence of the book. It was produced by heat. [Transcriber's note: sic] End.

[Illustration]

[Illustration: A cat]

Last sentence of the book.


End of the Project Gutenberg EBook of The Title, by An Author

*** END OF THIS PROJECT GUTENBERG EBOOK THE TITLE ***

***** This file should be named 11.txt *****
Project Gutenberg-tm licence text.
"""


def _clean(text: str, **options: bool) -> tuple[str, dict[str, int]]:
    frame = gutenberg.frame(text, **options)
    cleaned, _, removed = paragraphs.cut(text, frame.spans)
    return cleaned, dict(removed)


def test_a_header_and_a_licence_go_and_are_counted() -> None:
    frame = gutenberg.frame(NEW)
    assert frame.found
    assert frame.header["title"] == "The Title Of Two Lines"
    assert (frame.header["author"], frame.header["number"], frame.header["release_date"]) == ("An Author", "11", "June 25, 2008")
    assert gutenberg.declared_encoding(NEW.encode()) == "ISO-8859-1"
    text, removed = _clean(NEW)
    assert text == (
        "THE TITLE\n\nFirst sentence of the book. It was produced by heat.  End.\n\n\n[Illustration: A cat]\n\nLast sentence of the book."
    )
    assert set(removed) == {"header", "credits", "transcriber_notes", "illustrations", "licence"}
    kept = len(NEW) - sum(removed.values())
    assert len(text) <= kept <= len(text) + 30  # what is not counted is blank lines
    assert "[Illustration: A cat]" not in _clean(NEW, captions=False)[0]


OLD = """***This is the Project Gutenberg Etext of Old Book***
*This 30th edition should be labeled old30.txt or old30.zip.

Copyright laws are changing all over the world.

Old Book

March, 1994  [Etext #12]

***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***
Why is this "Small Print!" statement here?  You know: lawyers.
*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*


                  OLD BOOK

Once upon a time.

The end came.

End of The Project Gutenberg Etext of Old Book
"""


def test_the_small_print_of_the_nineties_goes() -> None:
    text, removed = _clean(OLD)
    assert text.split() == ["OLD", "BOOK", "Once", "upon", "a", "time.", "The", "end", "came."]
    assert set(removed) == {"header", "licence"}
    assert gutenberg.frame(OLD).header == {"title": "Old Book", "number": "12"}


def test_other_texts_pass_unchanged() -> None:
    text = "A novel.\n\nShe had produced by noon what the transcriber asked.\n\n*** END OF THE CHAPTER ***\n\nMore [1] and {2}."
    assert gutenberg.frame(text).spans == []


def test_page_numbers_go_where_there_are_many() -> None:
    pages = "".join(f"word {n} [Pg {n}] goes on\n" for n in range(9))
    text, removed = _clean(pages)
    assert "Pg" not in text
    assert "word 3 goes on" in text
    assert removed["page_numbers"] == sum(len(f" [Pg {n}]") for n in range(9))
    assert _clean("see [Pg 3] and {4}")[0] == "see [Pg 3] and {4}"


@given(st.text(alphabet="ab \n", max_size=200), st.lists(st.integers(0, 200), max_size=6), st.lists(st.integers(0, 200), max_size=5))
@settings(max_examples=300, deadline=None)
def test_places_move_with_their_text(text: str, edges: list[int], places: list[int]) -> None:
    """Against a mark put into the text itself, which moves along."""
    edges = sorted(min(edge, len(text)) for edge in edges)
    spans = [gutenberg.Span(a, b, "x") for a, b in zip(edges[::2], edges[1::2], strict=False) if a < b]
    places = [
        place for place in places if place < len(text) and text[place] not in " \n" and not any(s.start <= place < s.end for s in spans)
    ]
    cut, moved, removed = paragraphs.cut(text, spans, places)
    assert removed.get("x", 0) == sum(span.end - span.start for span in spans)
    for place, new in zip(places, moved, strict=True):
        marked = text[:place] + "!" + text[place + 1 :]
        assert paragraphs.cut(marked, spans)[0].index("!") == new
    assert paragraphs.cut(text, spans)[0] == cut


# --- paragraphs

PROSE = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife. However little "
    "known the feelings or views of such a man may be on his first entering a neighbourhood, this truth is so well fixed in the minds of "
    "the surrounding families, that he is considered the rightful property of some one or other of their daughters."
)
VERSE = """O Captain! my Captain! our fearful trip is done,
The ship has weather'd every rack, the prize we sought is won,
The port is near, the bells I hear, the people all exulting,
While follow eyes the steady keel, the vessel grim and daring;"""
LOWER_VERSE = """  in the dim light that fell
  she counted every bell
  and wrote upon the wall
  the names she could recall"""
TABLE = """Bread        a penny the loaf in the year of the great frost
Candles      two pence a pound, and three where they were of wax"""


@pytest.mark.parametrize("width", [60, 65, 72, 80])
def test_wrapped_prose_is_joined_and_nothing_else(width: int) -> None:
    wrapped = textwrap.fill(PROSE, width)
    text = "\n\n".join([wrapped, VERSE, wrapped, LOWER_VERSE, TABLE, wrapped])
    assert paragraphs.unwrap(text) == "\n\n".join([PROSE, VERSE, PROSE, LOWER_VERSE, TABLE, PROSE])


def test_first_lines_that_are_indented_part_paragraphs() -> None:
    one = textwrap.fill(PROSE, 70, initial_indent="  ")
    assert paragraphs.unwrap(f"{one}\n{one}") == f"{PROSE}\n{PROSE}"


def test_hyphens_and_dashes_at_line_ends_hold_words_together() -> None:
    text = (
        "but when the Rabbit actually TOOK A WATCH OUT OF ITS WAIST-COAT-\nPOCKET, and looked at it, and then it hurried on, "
        "Alice started--\nand ran after it over the field until she came to the end of it."
    )
    joined = paragraphs.unwrap(text + "\n\n" + textwrap.fill(PROSE, 66))
    assert "WAIST-COAT-POCKET" in joined
    assert "started--and ran" in joined


@given(st.lists(st.text(alphabet="aAbB .-—\n床", max_size=80), max_size=30))
@settings(max_examples=200, deadline=None)
def test_joining_changes_white_space_alone(lines: list[str]) -> None:
    text, _ = paragraphs.tidy("\n".join(lines))
    assert "".join(paragraphs.unwrap(text).split()) == "".join(text.split())


def test_lines_are_cleaned_and_controls_counted() -> None:
    text, removed = paragraphs.tidy("a  \r\nb\r\r\nc\rd\x00\x07\fe \n")
    assert text == "a\nb\nc\nd\n\ne"
    assert removed == {"controls": 2}


def test_chapters_are_found_and_a_table_of_contents_is_none() -> None:
    titles = [f"CHAPTER {n}. Of the {n}th Matter" for n in ("I", "II", "III", "IV", "V", "VI")]
    contents = "CONTENTS\n\n" + "\n\n".join(titles)
    body = "\n\n".join(f"{title}\n\n{PROSE}\n\nI.\n\n{PROSE}" for title in titles)
    text = f"PREFACE\n\n{PROSE}\n\n{contents}\n\n{body}"
    found = paragraphs.chapters(text)
    assert [chapter.title for chapter in found] == ["PREFACE", *(t for title in titles for t in (title, "I."))]
    for chapter in found:
        assert text[chapter.offset :].startswith(chapter.title)
    assert paragraphs.chapters("I mix.\n\nCivil.\n\nA part of it.") == []


def test_asciidoc_gives_markdown_headings() -> None:
    source = (
        "= Book\nAuthor\nv0.0.4\n:toc:\n\n[colophon]\n== Copyright\n\nGone.\n\n== One\n\n[verse]\n____\na line\n____\n\nText *stays*.\n"
    )
    assert asciidoc.is_asciidoc(source)
    text, removed = asciidoc.to_text(source)
    assert text.split("\n\n") == ["# Book\nAuthor", "## One", "a line", "Text *stays*.\n"]
    assert removed["boilerplate"] == len("[colophon]\n== Copyright\n\nGone.\n\n")
    assert not asciidoc.is_asciidoc("= \n\nno sections")


# --- HTML


def _html(body: str, options: book_html.Options = book_html.Options()) -> tuple[str, dict[str, int]]:  # noqa: B008  it is frozen
    found = book_html.extract(markup.parse_html(f"<html><body>{body}</body></html>"), options)
    for heading in found.headings:
        assert found.text[heading.offset :].startswith("#" * heading.level + " " + heading.title)
    return found.text, dict(found.removed)


def test_structure_is_kept() -> None:
    text, removed = _html(
        "<h1>THE<br/>TITLE</h1><p>One\n two&nbsp;<i>three</i>.</p><div class=poem><div class=stanza><div class='line'>a</div>"
        "<div class='line'>&nbsp;&nbsp;b</div></div><div class=stanza><div class='line'>c</div></div></div>"
        "<p class=verse>x<br>y<br><br>z</p><ul><li>u</li><li>v<ol><li>w</li></ol></li></ul>"
        "<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>2|3</td></tr></table><pre>  keep\n   this</pre>"
        "<hr><p>H<sub>2</sub>O <ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp></ruby></p>"
    )
    assert text == (
        "# THE TITLE\n\nOne two three.\n\na\n  b\n\nc\n\nx\ny\n\nz\n\n- u\n- v\n  1. w\n\n| A | B |\n| --- | --- |\n| 1 | 2\\|3 |\n\n"
        "  keep\n   this\n\nH2O 漢(kan)"
    )
    assert removed == {}


def test_what_is_not_the_reading_goes_and_is_counted() -> None:
    links = "".join(f'<li><a href="#c{n}">Chapter {n}</a></li>' for n in range(6))
    body = (
        f'<h2>Contents</h2><ol>{links}</ol><h2 id=c1>One</h2><p>Be<span class="pagenum">[12]</span>fore.<a href="#n1"><sup>1</sup></a>'
        " After"
        '<a class="fnanchor" href="#n2">[2]</a></p><section epub:type="colophon"><p>Made by.</p></section>'
        '<div class="transnote"><p>Transcriber: fixed.</p></div><aside epub:type="footnote"><p>A note. <a href="#r1">↩</a></p></aside>'
    )
    text, removed = _html(body)
    assert text == "## One\n\nBefore.[1] After[2]\n\nA note."
    assert removed["page_numbers"] == 4
    assert set(removed) == {"page_numbers", "contents", "boilerplate", "transcriber_notes", "links"}
    text, removed = _html(body, book_html.Options(notes="drop"))
    assert text == "## One\n\nBefore. After"
    assert removed["notes"] == 1 + 3 + len("A note. ↩")
    text, _ = _html(body, book_html.Options(boilerplate="keep"))
    assert all(word in text for word in ("Contents", "Chapter 5", "[12]", "Made by", "Transcriber"))


def test_formulas_and_pictures() -> None:
    math = '<math xmlns="http://www.w3.org/1998/Math/MathML"{}><semantics><mrow><mi>x</mi><mo>=</mo><mn>1</mn></mrow>{}</semantics></math>'
    annotated = math.format(' display="block"', '<annotation encoding="application/x-tex">x = \\frac{1}{1}</annotation>')
    source = "<html xmlns='http://www.w3.org/1999/xhtml'><body><p>a {} b</p><p><img alt='A cat'/></p><p><img alt='T'/>he</p></body></html>"
    for inner, said in (
        (annotated, "$$x = \\frac{1}{1}$$"),
        (math.format(' alttext="x_1"', ""), "$x_1$"),
        (math.format("", ""), "x=1"),
    ):
        root = markup.parse_xhtml(source.format(inner))
        assert book_html.extract(root, book_html.Options()).text == f"a {said} b\n\n[Illustration: A cat]\n\nThe"
        assert "cat" not in book_html.extract(root, book_html.Options(captions=False)).text


def test_names_of_characters_come_out_right_in_xml() -> None:
    root = markup.parse_xml(
        "<!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.1//EN' 'x.dtd'><html><p>&mdash;&nbsp;&eacute;&lt;&amp;&#8217;&nothing;</p></html>"
    )
    assert "".join(root.itertext()) == "—\xa0é<&’&nothing;"


@pytest.mark.parametrize(
    "source",
    [
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>',
        '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x>&f;</x>',
    ],
)
def test_entities_are_not_expanded(source: str) -> None:
    with pytest.raises(MarkupError) as raised:
        markup.parse_xml(source)
    assert raised.value.kind == "entity_declaration"


@pytest.mark.parametrize(
    "body",
    [
        "<div>" * 100_000 + "x",
        "<b>" * 100_000 + "x",
        "<p " + " ".join(f"a{n}=1" for n in range(100_000)) + ">x",
        "<table><tr><td>" * 3_000 + "x",
        "<div class='pagenum'>" * 1_900 + "x " * 200_000,
        "<div class='tn'>" * 1_900 + "x " * 200_000,
        "<nav class='toc'>" * 1_900 + "x " * 200_000,
        "<a href='#x'>a</a>" * 50_000,
        "<p>a<b>" * 20_000,
    ],
)
def test_hostile_markup_costs_bounded_time(body: str) -> None:
    started = time.process_time()
    with contextlib.suppress(MarkupError):
        _html(body)
    assert time.process_time() - started < 5


# --- TEI

TEI = """<?xml version="1.0"?><!DOCTYPE TEI.2 [<!ENTITY % x SYSTEM "x.dtd"> %x;]><TEI xmlns="http://www.tei-c.org/ns/1.0"><teiHeader><fileDesc>
<titleStmt><title>Songs</title><author>A. Poet</author></titleStmt><publicationStmt><availability><licence
target="https://creativecommons.org/licenses/by-sa/4.0/">Free</licence></availability></publicationStmt></fileDesc></teiHeader>
<text xml:lang="lat"><body><div><head>One</head><p>Arma <choice><sic>vi</sic><corr>virum</corr></choice>que
<app><lem>cano</lem><rdg>canto</rdg></app> Tro<lb break="no"/>iae<note>a note</note> qui<pb n="2"/>bus <gap/><del>gone</del>.</p>
<lg><l>line one</l><l>line two</l></lg><lg><l>line three</l></lg><sp><speaker>HAMLET</speaker><l>To be</l></sp>
<p>He said <q>go</q> &mdash; so.</p><list><item>a</item><item>b</item></list></div></body></text></TEI>"""


def test_tei() -> None:
    root = markup.parse_xml(TEI)
    found = tei.extract(root, book_html.Options())
    assert found.text == (
        "# One\n\nArma virumque cano Troiae [a note] quibus .\n\nline one\nline two\n\nline three\n\n"
        "HAMLET\n\nTo be\n\nHe said go — so.\n\n- a\n\n- b"
    )
    assert found.removed["other_readings"] == len("vi" + "canto" + "gone")
    about = tei.metadata(root)
    assert (about["title"], about["authors"], about["language"]) == ("Songs", ["A. Poet"], "lat")
    assert book_about.licence_of(about["licence_url"]) == "CC-BY-SA-4.0"
    assert "a note" not in tei.extract(root, book_html.Options(notes="drop")).text


def test_languages_and_licences() -> None:
    tags = {
        said: book_about.language_tag(said) for said in ("English", "eng", "en_gb", "zh-hant-tw", "Klingon", "English and Latin", "", "xx")
    }
    assert tags == {
        "English": "en", "eng": "en", "en_gb": "en-GB", "zh-hant-tw": "zh-Hant-TW",
        "Klingon": None, "English and Latin": None, "": None, "xx": "xx",
    }  # fmt: skip
    assert book_about.licence_of("dedicated by [CC0](https://creativecommons.org/publicdomain/zero/1.0/).") == "CC0-1.0"
    assert book_about.licence_of("Public domain in the USA.") is None
    assert book_about.licence_of("http://creativecommons.org/licenses/by/4.0/ or http://creativecommons.org/licenses/by-nc/4.0/") is None
