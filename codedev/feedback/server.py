"""The page and its calls, for people who have the token.

    GET  /?token=…        sets the cookie and shows the page; without either a page says what to open
    GET  /api/state       ?rater=NAME: the next task, rendered; counts, agreement
    POST /api/judge       {key, task, rater, verdict, comment, seconds}: stored, then the next state
    POST /api/undo        {rater}: takes back the newest judgement, and shows its task again

Bound to the loopback interface unless told otherwise. Another site's page can neither read nor write here: the cookie is of this site
alone, calls that write need a header that no form can send, and a Host that is not ours (a name made to point here) is refused. The page
runs nothing but its own file (Content-Security-Policy), whatever a model has printed.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
import unicodedata
from collections.abc import Callable
from importlib import resources
from typing import Any

import orjson

from codedev._errors import CodedevError, InputError, MissingExtraError, RunError
from codedev.feedback.agreement import agreement
from codedev.feedback.render import as_it_is, code_style, rendered
from codedev.feedback.store import Store
from codedev.feedback.tasks import Task

MAX_BODY = 1 << 20
MAX_COMMENT = 20_000
MAX_NAME = 64
AGREED_FOR = 2.0  # seconds that the raters' agreement is not looked up again, or 20 times as long as that took
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
COOKIE = "codedev_feedback"
_OPEN = "Open the address that `codedev feedback serve` printed: it holds the token."


def app(store: Store, token: str, hosts: tuple[str, ...]) -> Any:
    """The ASGI application; `hosts`: the names without ports that it answers to, `*` for any."""
    try:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.requests import Request
        from starlette.responses import RedirectResponse, Response
        from starlette.routing import Route
    except ImportError:
        raise MissingExtraError("starlette", "feedback") from None
    agreed = _Agreement(store)
    kept = hashlib.sha256(f"codedev {token}".encode()).hexdigest()  # the cookie does not hold the token itself

    def known(request: Request) -> bool:
        return hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), kept.encode())

    def answer(content: bytes | str, kind: str, status: int = 200) -> Response:
        return Response(content, status, {**HEADERS, "content-type": kind})

    async def page(request: Request) -> Response:
        given = request.query_params.get("token")
        if given is not None and hmac.compare_digest(given.encode(), token.encode()):
            there = RedirectResponse("/", 303, HEADERS)
            there.set_cookie(COOKIE, kept, max_age=30 * 86_400, httponly=True, samesite="lax", path="/")
            return there
        if not known(request):
            return answer(_file("locked.html"), "text/html; charset=utf-8", 401)
        return answer(_file("index.html"), "text/html; charset=utf-8")

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name == "code.css":
            dark = "@media (prefers-color-scheme: dark) {\n" + code_style(dark=True) + "\n}\n"
            return answer(code_style(dark=False) + dark, "text/css; charset=utf-8")
        kinds = {"app.js": "text/javascript; charset=utf-8", "style.css": "text/css; charset=utf-8"}
        return answer(_file(name), kinds[name]) if name in kinds else answer("not found", "text/plain", 404)

    def call(act: Callable[[dict[str, Any]], dict[str, Any]], *, writes: bool) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            if not known(request):
                return answer(orjson.dumps({"error": _OPEN}), "application/json", 401)
            try:
                if writes:
                    if request.headers.get("x-codedev") != "1":
                        raise InputError("a call without the header x-codedev: 1 is not from our page")
                    fields = await _body(request)
                else:
                    fields = dict(request.query_params)
                return answer(orjson.dumps(await run_in_threadpool(act, fields)), "application/json")
            except CodedevError as error:
                status = 503 if isinstance(error, RunError) else 400
                return answer(orjson.dumps({"error": str(error)}), "application/json", status)

        return endpoint

    def state(fields: dict[str, Any]) -> dict[str, Any]:
        return _state(store, agreed, _name(fields))

    def judge(fields: dict[str, Any]) -> dict[str, Any]:
        rater = _name(fields)
        key, identity, verdict, comment, seconds = (fields.get(name) for name in ("key", "task", "verdict", "comment", "seconds"))
        if not (isinstance(key, str) and 8 <= len(key) <= 64 and isinstance(verdict, str) and isinstance(identity, str)):
            raise InputError("judge: needs key (8 to 64 characters), task, rater and verdict")
        if not (isinstance(comment, str) and len(comment) <= MAX_COMMENT):
            raise InputError(f"comment: is no text of at most {MAX_COMMENT:,} characters. Shorten it")
        if not (isinstance(seconds, int | float) and math.isfinite(seconds) and 0 <= seconds < 1e7):
            seconds = 0.0
        task = store.task(identity)
        if task is None:
            raise InputError(f"task: there is no {identity[:64]}. Load the page again")
        store.judge(key, task, rater, verdict, comment.replace("\0", ""), float(seconds))  # which PostgreSQL has no place for
        return _state(store, agreed, rater)

    def undo(fields: dict[str, Any]) -> dict[str, Any]:
        rater = _name(fields)
        last = store.undo(rater)
        return {**_state(store, agreed, rater, last.task if last else None), "undone": last._asdict() if last else None}

    return Starlette(
        routes=[
            Route("/", page),
            Route("/page/{name}", static),
            Route("/api/state", call(state, writes=False)),
            Route("/api/judge", call(judge, writes=True), methods=["POST"]),
            Route("/api/undo", call(undo, writes=True), methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)],
    )


def serve(store: Store, host: str, port: int, token: str | None = None, ready: Callable[[str], None] = print) -> None:
    """Serve until interrupted. `ready` gets the address with its token; port 0 takes a free one."""
    try:
        import uvicorn
    except ImportError:
        raise MissingExtraError("uvicorn", "feedback") from None
    import socket

    token = token or secrets.token_urlsafe(18)
    local = host in ("127.0.0.1", "localhost", "::1")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
        except OSError as error:
            raise RunError(f"{host}:{port}: cannot be listened on: {error.strerror}. Choose another --host or --port") from None
        bound.listen(64)
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{bound.getsockname()[1]}/?token={token}")
        names = ("127.0.0.1", "localhost", "[::1]") if local else ("*",)
        config = uvicorn.Config(
            app(store, token, names), log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=5
        )
        uvicorn.Server(config).run(sockets=[bound])


async def _body(request: Any) -> dict[str, Any]:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise InputError(f"a call of more than {MAX_BODY >> 20} MiB is not from our page")
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        raise InputError("a call that is no JSON object is not from our page")
    return fields


def _name(fields: dict[str, Any]) -> str:
    given = fields.get("rater")
    name = unicodedata.normalize("NFC", " ".join(given.split())) if isinstance(given, str) else ""
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise InputError(f"rater: is no name of 1 to {MAX_NAME} characters. Write who you are")
    return name


class _Agreement:
    """How far the raters agree, looked up anew every few seconds: it takes all judgements into account."""

    def __init__(self, store: Store) -> None:
        self._store, self._found, self._until = store, dict[str, Any](), 0.0

    def now(self) -> dict[str, Any]:
        if (began := time.monotonic()) >= self._until:
            self._found = agreement(self._store.judgements(), self._store.kinds())
            self._until = time.monotonic() + max(AGREED_FOR, 20 * (time.monotonic() - began))
        return self._found


def _state(store: Store, agreed: _Agreement, rater: str, wanted: str | None = None) -> dict[str, Any]:
    task = store.task(wanted) if wanted else store.next_task(rater)
    total, raters = store.counts()
    return {
        "task": _shown(task, rater) if task else None,
        "total": total,
        "mine": raters.get(rater, {"judged": 0, "skipped": 0}),
        "raters": raters,
        "agreement": agreed.now() if len(raters) > 1 else {},
    }


def _shown(task: Task, rater: str) -> dict[str, Any]:
    """The task as the page shows it. Which answer stands first is drawn for every task and rater, so that a place cannot win."""
    turned = len(task.answers) == 2 and hashlib.sha256(f"{task.id} {rater}".encode()).digest()[0] & 1
    answers = [("a", task.answers[0]), ("b", task.answers[-1])][: len(task.answers)]
    return {
        "id": task.id,
        "kind": task.kind,
        "prompt": [
            {"role": message["role"], "html": rendered(message["content"]), "raw": as_it_is(message["content"])} for message in task.prompt
        ],
        "answers": [
            {"side": side, "html": rendered(answer.text), "raw": as_it_is(answer.text), "characters": len(answer.text)}
            for side, answer in (reversed(answers) if turned else answers)
        ],
    }


def _file(name: str) -> bytes:
    return resources.files("codedev.feedback").joinpath("page", name).read_bytes()
