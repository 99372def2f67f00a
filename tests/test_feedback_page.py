"""The page of `codedev feedback serve` in a real browser, against a real server that is killed; and what strangers can do to either."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codedev.feedback.render import MAX_RENDERED, formula, rendered
from codedev.feedback.server import AGREED_FOR
from codedev.feedback.store import Store

pytest.importorskip("starlette")
TOKEN = "a-token-of-the-test"
HOSTILE = (
    "<script>document.title='hacked'</script>",
    "<img src=x onerror=\"document.title='hacked'\">",
    "<svg/onload=document.title='hacked'>",
    "[a](javascript:document.title='hacked')",
    "![a](http://127.0.0.1:1/picture.png)",
    "[a]: javascript:document.title='hacked'\n\n[a]",
    "<iframe srcdoc=\"<script>parent.document.title='hacked'</script>\"></iframe>",
    "$\\text{<img src=x onerror=document.title='hacked'>}$",
    "$\\href{javascript:alert(1)}{x}$",
    "\\[\\text{<script>document.title='hacked'</script>}\\]",
    "```html\n<script>document.title='hacked'</script>\n```",
    "```\"><script>document.title='hacked'</script>\nx\n```",
    "<style>body{display:none}</style>",
    "<form action=/api/judge><input name=rater></form>",
    "<meta http-equiv=refresh content=0;url=http://127.0.0.1:1/>",
    "a\x00b\x1b[31m\u202etxt\ud7ff\uffff",
    "`" * 3000 + "*" * 3000 + "[" * 3000,
)


class Serving:
    """A server of its own process on one port, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.db = folder / "f.sqlite"
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self, *answers: Path) -> str:
        command = [sys.executable, "-m", "codedev", "feedback", "serve", *map(str, answers), "--db", str(self.db), "--token", TOKEN]
        self.process = subprocess.Popen([*command, "--port", str(self.port)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        address = self.process.stdout.readline().strip()
        assert address.endswith(f"/?token={TOKEN}")
        self.port = int(address.split(":")[2].split("/")[0])
        return address

    def kill(self, how: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


def answers(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    made = Serving(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        pytest.skip("chromium is not installed: the page is not driven")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    contexts = []

    def enter(address: str, name: str, **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.said = []
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: page.said.append(dialog.message))
        page.goto(address)
        page.fill("#name", name)
        page.keyboard.press("Enter")
        page.locator("#task:visible, #done:visible").wait_for()  # a key pressed before that means nothing yet
        return page

    yield enter
    for context in contexts:
        context.close()


def count(page: Any, shown: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#count")).to_have_text(shown, timeout=20_000)


def standing(serving: Serving) -> list[tuple[str, str, str]]:
    store = Store(str(serving.db))
    found = [(row.rater, row.verdict, row.comment) for row in store.judgements()]
    store.close()
    return found


def first_side(serving: Serving, page: Any) -> str:
    """The side of the task's answers that stands first on the screen."""
    shown = page.locator(".answer .text").first.inner_text()
    store = Store(str(serving.db))
    side = next("ab"[at] for made in store.tasks() for at, answer in enumerate(made.answers) if answer.text == shown)
    store.close()
    return side


def test_compare_rate_undo_and_a_server_that_dies(serving: Serving, open_page: Callable[..., Any], tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"Question {n}", "answers": [f"one {n}", f"two {n}"]} for n in range(3)]
    rows += [
        {"prompt": "What is $x^2$?", "answer": "```python\nreturn x\n```\nor \\[\\frac{1}{2}\\]"},
        {"prompt": "Last", "answer": "fine"},
    ]
    address = serving.start(answers(tmp_path / "a.jsonl", rows))
    page = open_page(address, "ann")
    count(page, "0 of 5")
    expected = []
    # By keyboard: the left one, with a comment.
    expected.append(("ann", first_side(serving, page), "short and right"))
    page.keyboard.press("c")
    page.keyboard.type("short and right")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowLeft")
    count(page, "1 of 5")
    assert standing(serving) == expected
    # The right one by the mouse, taken back, and another verdict.
    page.get_by_role("button", name="B is better").click()
    count(page, "2 of 5")
    page.keyboard.press("u")
    count(page, "1 of 5")
    assert page.locator("#prompt .text").inner_text() == "Question 1"
    page.keyboard.press("0")
    count(page, "2 of 5")
    expected.append(("ann", "tie", ""))
    assert standing(serving) == expected
    # The server is killed; what is judged meanwhile waits, through a reload too, and arrives once.
    serving.kill()
    page.keyboard.press("x")
    page.locator("#status.bad").wait_for()
    assert "kept here" in page.locator("#status").inner_text()
    serving.start()
    count(page, "3 of 5")
    expected.append(("ann", "bad", ""))
    assert standing(serving) == expected
    # A rating; formulas and code are rendered, and can be seen as they were printed.
    assert page.locator("#prompt math msup").count() == 1
    assert page.locator(".answer math mfrac").count() == 1
    assert page.locator(".answer code .k").inner_text() == "return"
    page.keyboard.press("r")
    assert page.locator(".answer pre").inner_text() == rows[3]["answer"]
    page.keyboard.press("r")
    page.keyboard.press("4")
    count(page, "4 of 5")
    page.keyboard.press("s")
    count(page, "5 of 5")
    page.locator("#done").wait_for()
    assert standing(serving) == [*expected, ("ann", "4", ""), ("ann", "skip", "")]
    assert page.said == []
    assert serving.kill(signal.SIGINT) in (0, 130)


def test_two_raters_at_once_and_their_agreement(serving: Serving, open_page: Callable[..., Any], tmp_path: Path) -> None:
    address = serving.start(answers(tmp_path / "a.jsonl", [{"prompt": f"Q{n}", "answer": f"A{n}"} for n in range(4)]))
    ann, bob = open_page(address, "ann"), open_page(address, "bob")
    for number, (one, other) in enumerate(["55", "11", "34", "22"]):
        ann.keyboard.press(one)
        bob.keyboard.press(other)
        count(ann, f"{number + 1} of 4")
        count(bob, f"{number + 1} of 4")
    time.sleep(AGREED_FOR)
    ann.reload()
    ann.locator("#done").wait_for()
    ann.click("#raters")
    shown = ann.locator("#panel").inner_text()
    assert "bob\t4\t0" in shown
    assert "Ratings with more than one rater: 4, all agree on 75 %, Krippendorff's alpha 0.9" in shown


def test_what_a_model_prints_does_nothing(serving: Serving, open_page: Callable[..., Any], tmp_path: Path) -> None:
    rows = [{"prompt": text, "answers": [text, f"{text} "]} for text in HOSTILE]
    page = open_page(serving.start(answers(tmp_path / "a.jsonl", rows)), "ann")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for number, text in enumerate(HOSTILE):
        count(page, f"{number} of {len(HOSTILE)}")
        assert page.title() == "codedev feedback", text
        for tag in ("script", "img", "svg", "iframe", "style", "form", "input", "meta", "[onerror]", "[href^='javascript']"):
            assert page.locator(f"#prompt {tag}, #answers {tag}").count() == 0, (text, tag)
        for link in page.locator("#answers a").all():
            link.click(force=True)
        page.keyboard.press("s")
    page.locator("#done").wait_for()
    assert page.said == []
    assert all(url.startswith(f"http://127.0.0.1:{serving.port}/") for url in asked), asked


def test_on_a_phone_and_for_everybody(serving: Serving, open_page: Callable[..., Any], tmp_path: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    long = "word " * 300 + "x" * 400 + "\n\n```\n" + "y" * 400 + "\n```\n\n|" + "a|" * 40 + "\n|" + "-|" * 40 + "\n"
    path = answers(tmp_path / "a.jsonl", [{"prompt": long, "answers": [long, f"# Title\n\n{long}"]}, {"prompt": "p", "answer": "a"}])
    address = serving.start(path)
    for number, scheme in enumerate(("light", "dark")):
        page = open_page(address, f"rater {number}", viewport={"width": 360, "height": 700}, color_scheme=scheme)
        for done in range(2):
            count(page, f"{done} of 2")
            if done == 0:
                page.click("#raters")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 360, (scheme, done, wide)
            found = [fault for fault in axe.run(page).response["violations"] if fault["impact"] in ("serious", "critical")]
            assert found == [], json.dumps(found, indent=1)[:3000]
            page.keyboard.press("s")
        page.locator("#done").wait_for()


def test_strangers_are_kept_out(serving: Serving, tmp_path: Path) -> None:
    serving.start(answers(tmp_path / "a.jsonl", [{"prompt": "p", "answer": "a secret answer"}]))
    for path in ("/", "/?token=wrong", "/?token=", "/api/state?rater=ann", f"/api/state?rater=ann&token={TOKEN}"):
        status, headers, content = serving.ask("GET", path)
        assert status == 401
        assert b"secret answer" not in content
        assert "default-src 'none'" in headers["content-security-policy"]
    status, headers, _ = serving.ask("GET", f"/?token={TOKEN}")
    assert status == 303
    cookie = headers["set-cookie"].split(";")[0]
    assert TOKEN not in cookie
    assert "httponly" in headers["set-cookie"].lower()
    # A name of somebody's own that was made to point here.
    assert serving.ask("GET", "/api/state?rater=ann", cookie=cookie, host="evil.example")[0] == 400
    status, _, content = serving.ask("GET", "/api/state?rater=ann", cookie=cookie)
    task = json.loads(content)["task"]["id"]
    call = json.dumps({"key": "k" * 16, "task": task, "rater": "eve", "verdict": "1", "comment": "", "seconds": 1}).encode()
    assert serving.ask("POST", "/api/judge", call, x_codedev="1")[0] == 401
    assert serving.ask("POST", "/api/judge", call, cookie=cookie, content_type="text/plain")[0] == 400  # what another site's form can send
    for body, said in (
        (b"{", "no JSON object"),
        (b"[]", "no JSON object"),
        (b" " * (2 << 20), "more than 1 MiB"),
        (call.replace(b'"1"', b'"9"'), "verdict: '9' is none"),
        (call.replace(task.encode(), b"none"), "there is no none"),
        (call.replace(b'"eve"', b'"\\u0007"'), "rater: is no name"),
        (call.replace(b'"eve"', b"5"), "rater: is no name"),
        (call.replace(b'"comment": ""', b'"comment": "' + b"x" * 20_001 + b'"'), "comment: is no text"),
        (call.replace(b'"kkkk', b'5, "a": "'), "needs key"),
    ):
        status, _, content = serving.ask("POST", "/api/judge", body, cookie=cookie, x_codedev="1")
        assert status == 400, body[:80]
        assert said in json.loads(content)["error"]
    assert standing(serving) == []
    for path in ("/page/../server.py", "/page/%2e%2e%2fserver.py", "/page/locked.html", "/none"):
        assert serving.ask("GET", path, cookie=cookie)[0] == 404
    for _ in range(2):
        assert serving.ask("POST", "/api/judge", call, cookie=cookie, x_codedev="1")[0] == 200
    assert standing(serving) == [("eve", "1", "")]


def test_rendering_takes_a_bounded_time() -> None:
    bad = [
        fill * (MAX_RENDERED // len(fill) - 4)
        for fill in ("$", "$a ", "[", "[a](", "*a ", "**a", ">", "- ", "` `` ", "\\[", "\\(", "\\[\n", "$x^2$ ", "|a")
    ]
    bad += [
        f"```{language}\n" + fill * 20_000 + "\n```" for language in ("java", "make", "console", "python") for fill in ("a ", "(", "0", "'")
    ]
    for text in bad:
        times = []
        for _ in range(2):
            started = time.process_time()
            rendered(text)
            times.append(time.process_time() - started)
        assert min(times) < 10, text[:20]  # measured: below 1 s
    assert rendered("<" * (MAX_RENDERED + 1)) == "<pre>" + "&lt;" * (MAX_RENDERED + 1) + "</pre>"
    for tex in ("\\frac", "{" * 400, "^" * 400, "\\begin{matrix}" * 100, "x" * 3000, "\\text{</math><b>x</b>}", ""):
        made = formula(tex, block=False)
        assert "<b>" not in made
