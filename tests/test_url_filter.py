"""Lists of URLs against a plain reading of what they mean; real layouts; what a changed list does to a plan."""

from __future__ import annotations

import gzip
import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest
from test_source_web import HTML, kinds, read, record, response, write

from codedev._errors import InputError, RecipeError
from codedev.corpus.source import Drop
from codedev.corpus.sources.web import source as web
from codedev.corpus.sources.web import url_filter
from codedev.corpus.sources.web.url_filter import UrlFilter, Verdict


def check(url: str, base: Path = Path("/nowhere"), **keys: Any) -> Verdict | None:
    return url_filter.load(UrlFilter(**keys), base, "")(url)


def reason(url: str, base: Path = Path("/nowhere"), **keys: Any) -> str | None:
    verdict = check(url, base, **keys)
    return verdict and verdict.reason


@pytest.mark.parametrize(
    ("url", "blocked"),
    [
        ("http://bad.org/", True),
        ("https://www.BAD.org:8080/x?y#z", True),
        ("http://user:pw@a.b.bad.org./x", True),
        ("bad.org", True),
        ("http://notbad.org/", False),
        ("http://bad.org.example/", False),
        ("http://example.org/bad.org", False),
        ("http://example.org/?u=http://bad.org/", False),
        ("http://xn--bcher-kva.example/a", True),
        ("http://bücher.example/a", True),
        ("http://192.0.2.7/", True),
        ("http://1.192.0.2.7/", True),
        ("http://[2001:db8::1]/", False),
        ("", False),
        ("http://", False),
        ("dns:bad.org", False),
    ],
)
def test_domains(url: str, blocked: bool) -> None:
    found = check(url, domains=("bad.org", "www.worse.org", "bücher.example", "192.0.2.7"))
    assert (found is not None) == blocked
    if found:
        assert found.reason == "blocked_domain"
        assert found.evidence["list"] == "recipe"


@pytest.mark.parametrize(
    ("url", "blocked"),
    [
        ("http://example.org/a", True),
        ("https://www.example.org/a/", True),
        ("http://example.org/a/b/c", True),
        ("http://example.org/a?b=c", True),
        ("http://example.org/a#b", True),
        ("http://example.org/ab", False),
        ("http://example.org/", False),
        ("http://sub.example.org/a", False),
        ("http://example.org/A", False),
        ("http://example.org/q?id=1", True),
        ("http://example.org/q?id=1&x=2", True),
        ("http://example.org/q?id=12", False),
        ("http://whole.example/anything", True),
    ],
)
def test_urls(url: str, blocked: bool) -> None:
    found = reason(url, urls=("https://example.org/a/", "www.example.org/q?id=1", "whole.example"))
    assert found == ("blocked_url" if blocked else None)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://example.org/casino/x", "blocked_word"),
        ("http://my-CASINO.example/", "blocked_word"),
        ("http://example.org/casinos", None),
        ("http://example.org/ca%73ino", "blocked_word"),
        ("http://example.org/po-rn-o", "blocked_word"),
        ("http://example.org/free", None),
        ("http://example.org/free/bonus", "blocked_word"),
        ("http://example.org/free/free", None),
        ("http://good.example/casino", None),
        ("http://sub.good.example/free/bonus", None),
        ("http://example.org/let/casino", None),
    ],
)
def test_words(url: str, found: str | None) -> None:
    keys = {"words": ("Casino",), "subwords": ("porno",), "soft_words": ("free", "bonus")}
    assert reason(url, **keys, allow={"domains": ("good.example",), "urls": ("example.org/let",)}) == found


def test_only_what_is_listed() -> None:
    keys = {"domains": ("bad.good.example",), "only": {"domains": ("good.example",), "urls": ("example.org/a",)}}
    assert reason("http://good.example/", **keys) is None
    assert reason("http://bad.good.example/", **keys) == "blocked_domain"
    assert reason("http://example.org/a/b", **keys) is None
    assert reason("http://example.org/b", **keys) == "not_listed"


def brute_force(url_host: str, listed: set[str]) -> bool:
    labels = url_host.split(".")
    return any(".".join(labels[at:]) in listed for at in range(len(labels) - 1))


def test_many_domains_against_brute_force(tmp_path: Path) -> None:
    rng = random.Random(0)
    names = [".".join(rng.choices(["a", "bb", "c-c", "d1", "e_e", "ff"], k=rng.randrange(1, 4))) + ".org" for _ in range(3000)]
    listed = set(names[:300])
    write(tmp_path / "list", "\n".join(sorted(listed)).encode())
    look = url_filter.load(UrlFilter(domains=("./list",)), tmp_path, "")
    for name in names:
        assert (look(f"http://{name}/x") is not None) == brute_force(name, listed), name


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_lists_in_files(tmp_path: Path, ending: str) -> None:
    store = gzip.compress if ending else bytes
    ut1 = tmp_path / "ut1/adult"
    ut1.mkdir(parents=True)
    write(ut1 / f"domains{ending}", store(b"one.example\ntwo.example\n"))
    write(ut1 / f"urls{ending}", store(b"three.example/~x\n"))
    write(ut1 / "expressions", b"(.*)\\.(sex|xxx)$\n")
    write(ut1 / "usage", b"black\n")
    hosts = b"# a comment\r\n127.0.0.1 localhost\r\n0.0.0.0 four.example # why\r\n::1 ip6-localhost\r\n0.0.0.0 0.0.0.0\r\n\r\n"
    write(tmp_path / "hosts", store(hosts))
    write(tmp_path / "mixed.txt", b"\xef\xbb\xbf# list\n.FIVE.example\n*.six.example\nhttp://seven.example/\n")
    write(tmp_path / "words", b"casino\n# soft\n\nbingo\n")
    keys = {"domains": ("./ut1", "./hosts", "./mixed.txt"), "urls": ("./ut1/adult",), "words": ("./words",)}
    for url in ("one.example/x", "a.two.example", "four.example", "five.example", "x.six.example", "six.example", "seven.example/y"):
        found = check(f"http://{url}", tmp_path, **keys)
        assert found, url
        assert found.reason == "blocked_domain"
    assert check("http://one.example/", tmp_path, **keys).evidence == {"domain": "one.example", "list": f"ut1/adult/domains{ending}"}  # type: ignore[union-attr]
    assert reason("http://three.example/~x/y", tmp_path, **keys) == "blocked_url"
    assert reason("http://three.example/", tmp_path, **keys) is None
    assert reason("http://example.org/bingo", tmp_path, **keys) == "blocked_word"
    for url in ("localhost/", "127.0.0.1/", "0.0.0.0/", "black/", "example.sex"):
        assert reason(f"http://{url}", tmp_path, **keys) is None, url


def test_a_quick_reading_of_lines_is_the_slow_one(tmp_path: Path) -> None:
    """Bare domains take another path than lines with anything unusual in them."""
    rng = random.Random(1)
    names = [f"{'www.' * rng.randrange(3)}{rng.randbytes(4).hex()}.example" for _ in range(2000)]
    write(tmp_path / "bare", "\n".join(names).encode())
    write(tmp_path / "odd", ("# one\n" + "\r\n".join(name.upper() for name in names)).encode())
    bare, odd = (url_filter.load(UrlFilter(domains=(f"./{name}",)), tmp_path, "") for name in ("bare", "odd"))
    for name in names:
        for host in (name, "sub." + name, name.removeprefix("www."), "x" + name):
            assert (bare(f"http://{host}/") is None) == (odd(f"http://{host}/") is None), host
        assert bare(f"http://{name}/")


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"domains": ("adult.txt/x",)}, RecipeError),
        ({"domains": ("here.txt",)}, RecipeError),
        ({"domains": ("localhost",)}, RecipeError),
        ({"domains": ("",)}, RecipeError),
        ({"domains": ("./none",)}, InputError),
        ({"words": ("two words",)}, InputError),
        ({"words": ("./none",)}, InputError),
        ({"domains": ("./broken.gz",)}, InputError),
    ],
)
def test_entries_that_cannot_be_meant(tmp_path: Path, keys: dict[str, Any], error: type[Exception]) -> None:
    write(tmp_path / "here.txt", b"a.example\n")
    write(tmp_path / "broken.gz", gzip.compress(b"a.example\n" * 1000)[:-20])
    with pytest.raises(error):
        url_filter.load(UrlFilter(**keys), tmp_path, "")


def test_millions_of_entries_in_bounded_memory(tmp_path: Path) -> None:
    count = 1_000_000
    with (tmp_path / "list").open("wb") as file:
        for start in range(0, count, 10_000):
            file.write(b"".join(b"site-%d.example\n" % number for number in range(start, start + 10_000)))
    tracemalloc.start()
    started = time.process_time()
    look = url_filter.load(UrlFilter(domains=("./list",)), tmp_path, "")
    loaded = time.process_time() - started
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 12 * count
    assert peak < 60 * count
    assert loaded < 10
    assert all(look(f"http://www.site-{number}.example/") for number in range(0, count, 9973))
    assert not any(look(f"http://www.site-{number}.example/") for number in range(count, 2 * count, 997))


# --- in the source


def archive(folder: Path) -> Path:
    urls = ["http://a.bad.example/x", "http://good.example/casino", "http://good.example/", ""]
    return write(folder / "w.warc", b"".join(record(n, response(HTML % b"lists"), WARC_Target_URI=url) for n, url in enumerate(urls)))


def test_blocked_pages_are_drops_with_evidence(tmp_path: Path) -> None:
    path = archive(tmp_path)
    things = read(path, urls={"domains": ("bad.example",), "words": ("casino",)})
    assert kinds(things) == ["blocked_domain", "blocked_word", "document", "document"]
    assert isinstance(things[0], Drop)
    assert orjson.loads(things[0].evidence) == {"domain": "bad.example", "list": "recipe"}
    assert things[0].url == "http://a.bad.example/x"
    assert kinds(read(path, urls={"only": {"domains": ("good.example",)}}))[-1] == "not_listed"  # a page without a URL is in no list


def test_a_changed_list_changes_the_plan(tmp_path: Path) -> None:
    archive(tmp_path)
    write(tmp_path / "list", b"bad.example\n")
    config = web.Config(name="w", paths=("w.warc",), urls={"domains": ("./list",)})
    (before,) = web.plan(config, tmp_path, 1 << 30)
    assert (before,) == tuple(web.plan(config, tmp_path, 1 << 30))
    assert kinds(list(web.read(before, config, tmp_path))) == ["blocked_domain", "document", "document", "document"]
    write(tmp_path / "list", b"good.example\n")
    (after,) = web.plan(config, tmp_path, 1 << 30)
    assert after.context != before.context
    assert kinds(list(web.read(after, config, tmp_path))) == ["document", "blocked_domain", "blocked_domain", "document"]
    url_filter.load.cache_clear()
    with pytest.raises(InputError, match="changed"):
        list(web.read(before, config, tmp_path))


def test_hostile_urls_cost_little() -> None:
    look = url_filter.load(UrlFilter(domains=("a.example",), urls=("a.example/x",), words=("w",), subwords=("s" * 30,)), Path("/"), "")
    started = time.perf_counter()
    long = ["http://" + "a." * 500_000, "http://x/" + "/" * 1_000_000, "http://x/" + "%41" * 300_000, "é" * 99_999]
    for url in (*long, "http://\udcff\u0130.example/"):
        look(url)
    assert time.perf_counter() - started < 3
