"""Files behind URLs: https://, s3://, gs://, hf:// and whatever else fsspec knows.

Listing follows the rules of local paths: names sorted folder by folder, hidden ones left out, * within a folder, ** through all of them.
Reading asks for ranges that grow from 256 KiB to 8 MiB while it goes on in order, so that a look into the middle costs little. A
failure that may pass (a dropped connection, a time-out, 429, 5xx) is tried again after 0.5, 1, 2, 4 s; CODEDEV_REMOTE_TRIES is the
number of tries (5). What will not pass (404, 403, no credentials) is reported at once. Whatever a store's library raises becomes
RemoteError, an OSError, or InputError while listing. A server that cannot give ranges has its file copied to a temporary one.

Credentials are the store's own (AWS_*, GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN) or fsspec's (FSSPEC_S3='{"anon": true}'). The
listing of one folder is held, about 1 KB an object. Not here: writing; caches; a place on disk for what was read once.
"""

from __future__ import annotations

import glob
import io
import os
import random
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

import xxhash

from codedev._errors import InputError, printable

T = TypeVar("T")

_PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "hf": "huggingface_hub"}
_HELP = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or FSSPEC_S3='{\"anon\": true}' for a public bucket",
    "gs": 'Set GOOGLE_APPLICATION_CREDENTIALS, or FSSPEC_GS=\'{"token": "anon"}\' for a public bucket',
    "hf": "Set HF_TOKEN, and accept the data set's terms where it has some",
}
_FIRST_BLOCK, _BLOCK = 256 << 10, 8 << 20
_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds


class RemoteError(OSError):
    """A remote file cannot be listed, opened or read, and trying again did not help."""


class MissingError(RemoteError):
    pass


class ChangedError(RemoteError):
    """The object is not the one that was planned, or became another while it was read."""


class _NoRangesError(Exception):
    pass


def is_url(path: str) -> bool:
    return "://" in path


def shown(url: str) -> str:
    """The URL without what opens it: a password, a signature."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    place = parts.netloc.rpartition("@")[2] if parts.scheme in ("http", "https") else parts.netloc
    query = "" if _SIGNED.search(parts.query) else parts.query
    return urlunsplit(parts._replace(netloc=place, query=query)) if (place, query) != (parts.netloc, parts.query) else url


_SIGNED = re.compile(r"(?:^|[&;-])(?:signature|sig|token|credential|key|awsaccesskeyid)=", re.IGNORECASE)


# --- connecting, and trying again


def _connect(url: str) -> tuple[Any, str]:
    """The fsspec file system of `url` and the path in it. Raises InputError."""
    import fsspec

    protocol = url.partition("://")[0]
    try:
        return cast(tuple[Any, str], fsspec.core.url_to_fs(url, **_options(protocol)))
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        wanted = f"needs {package}: pip install -e '.[remote]'" if package else "needs a package"
        raise InputError(f"{shown(url)}: reading {protocol}:// {wanted} ({_reason(error)})") from None
    except Exception as error:  # an unknown protocol, a malformed URL, a broken configuration of the store's library
        raise InputError(f"{shown(url)}: cannot be opened: {_reason(error)}") from None


def _options(protocol: str) -> dict[str, Any]:
    """How codedev opens a store, unless fsspec's own configuration says otherwise."""
    import fsspec

    options: dict[str, Any] = {}
    if protocol in ("http", "https"):
        import aiohttp

        # No limit on the whole, which fsspec sets at five minutes. `identity`, since a range of a body packed on the way is another range.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        options = {"client_kwargs": {"timeout": timeout, "headers": {"Accept-Encoding": "identity"}, "trust_env": True}}
    elif protocol == "s3":  # one layer of tries is enough: botocore's five inside of s3fs's five take minutes
        options = {"config_kwargs": {"retries": {"total_max_attempts": 1}, "connect_timeout": 30, "read_timeout": 60}}
    if protocol in _PACKAGES:
        options["use_listings_cache"] = False  # it would hide that an object has changed
    known = fsspec.config.conf.get(protocol, {})
    return {name: value for name, value in options.items() if name not in known}


def _tries() -> int:
    told = os.environ.get("CODEDEV_REMOTE_TRIES", "5")
    if not (told.isascii() and told.isdigit() and 0 < int(told) <= 100):
        raise InputError(f"CODEDEV_REMOTE_TRIES={told}: must be a number from 1 to 100")
    return int(told)


def _again(url: str, do: Callable[[], T]) -> T:
    """What `do` returns, tried again while it fails in a way that may pass. Raises RemoteError."""
    tries = _tries()
    for attempt in range(1, tries + 1):
        try:
            return do()
        except _NoRangesError:
            raise
        except Exception as error:  # each store's library has its own family of them
            told = _told(error)
            if attempt == tries or not _may_pass(told):
                raise _translated(url, told, attempt) from error
            time.sleep(min(_PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE) * random.uniform(0.5, 1.0))  # noqa: S311
    raise AssertionError("unreachable: the last try returns or raises")


def _told(error: Exception) -> Exception:
    """What went wrong: fsspec's HTTP says of every failure that there is no such file, and gives the real one as the cause."""
    return error.__cause__ if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception) else error


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _status(error: BaseException) -> int | None:
    """The HTTP status that `error` speaks of: aiohttp, gcsfs, botocore and huggingface_hub each keep it elsewhere."""
    for one in _causes(error):
        response = getattr(one, "response", None)
        found = [getattr(one, "status", None), getattr(response, "status_code", None)]
        if type(one).__module__.startswith("gcsfs"):  # aiohttp has codes of its own: 400 for a connection that drops
            found.append(getattr(one, "code", None))
        if isinstance(response, dict):
            found.append(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        for status in found:
            if str(status).isdigit() and 100 <= int(str(status)) <= 599:
                return int(str(status))
    return None


_PASSING_STATUS = frozenset({408, 425, 429})
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError, NotImplementedError, ValueError)
_UNKNOWN_HOST = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


def _may_pass(error: Exception) -> bool:
    if isinstance(error, _LASTING) or _is_change(error) or _is_closed(error):
        return False
    status = _status(error)
    if status is not None:
        return status >= 500 or status in _PASSING_STATUS
    if any(isinstance(one, socket.gaierror) and one.errno in _UNKNOWN_HOST for one in _causes(error)):
        return False
    # Time-outs, resets, bodies that break off: OSErrors in the standard library, classes of their own in aiohttp and botocore.
    return any(isinstance(one, OSError | EOFError) or type(one).__module__.startswith(("aiohttp", "botocore")) for one in _causes(error))


def _is_change(error: BaseException) -> bool:
    return type(error).__name__ == "FileExpired" or _status(error) == 412


def _is_closed(error: BaseException) -> bool:
    """No credentials, or not enough of them."""
    words = ("NoCredentials", "PartialCredentials", "DefaultCredentials", "RefreshError", "TokenRetrieval")
    return isinstance(error, PermissionError) or _status(error) in (401, 403) or any(word in type(error).__name__ for word in words)


def _translated(url: str, error: Exception, tries: int) -> RemoteError:
    if isinstance(error, RemoteError):
        return error
    place, protocol = shown(url), url.partition("://")[0]
    if _is_change(error):
        return ChangedError(f"{place}: the object changed while it was read. Run the build again")
    if isinstance(error, FileNotFoundError) or _status(error) == 404:
        return MissingError(f"{place}: there is no such object")
    if _is_closed(error):
        return RemoteError(f"{place}: access denied ({_reason(error)}). {_HELP.get(protocol, 'The server does not give it to everyone')}")
    more = f" after {tries} tries (CODEDEV_REMOTE_TRIES sets how many)" if tries > 1 else ""
    return RemoteError(f"{place}: {_reason(error)}{more}")


def _reason(error: BaseException) -> str:
    words = " ".join(str(error).split())[:300]
    return printable(f"{type(error).__name__}: {words}" if words else type(error).__name__)


# --- listing


class _Entry(NamedTuple):
    path: str  # in its file system
    folder: bool
    size: int | None


def listing(pattern: str) -> Iterator[tuple[str, int]]:
    """(URL, bytes) of every file that a URL, the URL of a folder or a glob names; nothing where there is none. Raises InputError."""
    system, path = _connect(pattern)
    protocol = pattern.partition("://")[0]
    prefix = "" if protocol in ("http", "https") else f"{protocol}://"
    try:
        for entry in _matches(system, pattern, path):
            for file in _walk(system, pattern, entry):
                place = file.path if protocol in ("file", "local") else file.path.removeprefix("/")
                yield prefix + place, file.size or 0
    except RemoteError as error:
        raise InputError(str(error)) from None


def _matches(system: Any, url: str, path: str) -> Iterator[_Entry]:
    web = url.startswith(("http://", "https://"))
    magic = re.search(r"[*\[]" if web else r"[*?\[]", path)  # to the web a question mark begins the query
    if web and not magic and path.endswith("/"):
        yield _Entry(path, True, None)  # an index page
        return
    head = path[: magic.start()] if magic else path
    if "/" in head.strip("/") or not magic:  # even with * in it, it may be a name; but no bucket has one
        found = _entry(system, url, path)
        if found or not magic:
            yield from [found] if found else []
            return
    folder, _, _ = head.rpartition("/")
    rest = path[len(folder) :].strip("/")
    yield from sorted(set(_glob(system, url, _Entry(f"{folder}/" if web else folder, True, None), rest.split("/"))))


def _glob(system: Any, url: str, at: _Entry, parts: list[str]) -> Iterator[_Entry]:
    """Entries below `at` that the parts of a pattern match."""
    if not parts:
        yield at
        return
    part, *rest = parts
    if not glob.has_magic(part):
        found = _entry(system, url, f"{at.path.rstrip('/')}/{part}")
        if found and (found.folder or not rest):
            yield from _glob(system, url, found, rest)
        return
    if part == "**":
        yield from _glob(system, url, at, rest)
        if not rest:
            return
    for name, entry in _children(system, url, at.path):
        if part == "**":
            if entry.folder and not name.startswith("."):
                yield from _glob(system, url, entry, parts)
        elif fnmatchcase(name, part) and (part.startswith(".") or not name.startswith(".")) and (not rest or entry.folder):
            yield from _glob(system, url, entry, rest)


def _walk(system: Any, url: str, top: _Entry) -> Iterator[_Entry]:
    """The files at and below `top`, sorted by name folder by folder."""
    pending = [top]
    while pending:
        entry = pending.pop()
        if entry.folder:
            pending += [child for name, child in reversed(_children(system, url, entry.path)) if not name.startswith(".")]
        elif entry.size is None:  # an index page says nothing of sizes
            yield _entry(system, url, entry.path) or entry
        else:
            yield entry


def _entry(system: Any, url: str, path: str) -> _Entry | None:
    """What lies at `path`; None where nothing does."""
    try:
        info = _again(url, lambda: system.info(path))
    except MissingError:
        return None
    size = info.get("size")
    return _Entry(path, info.get("type") == "directory", None if size is None else int(size))


def _children(system: Any, url: str, folder: str) -> list[tuple[str, _Entry]]:
    """(name, entry) of what lies directly in the folder, sorted."""
    try:
        listed = _again(url, lambda: system.ls(folder, detail=True))
    except MissingError:
        return []
    children = {}
    for info in listed:
        path = str(info["name"])
        above, _, name = path.rstrip("/").rpartition("/")
        # Stores may hold an object for the folder itself; index pages link to their own orders, to their parents and elsewhere.
        if name and above.strip("/") == folder.strip("/") and not (is_url(path) and set("?#") & set(name)):
            size = info.get("size")
            children[name] = _Entry(path, info["type"] == "directory", None if size is None else int(size))
    return sorted(children.items())


# --- reading


def open_url(url: str, expected: str = "") -> BinaryIO:
    """The object's bytes, seekable. Raises RemoteError, and ChangedError where its `identity` is another than the one expected."""
    return io.BufferedReader(_Object(url, expected), 1 << 16)


def identity(url: str) -> str | None:
    """What the store calls the object's content (its ETag, checksum or blob, and the size) as 32 hex digits; None where it calls it nothing
    or says itself that equal names may be unequal bytes (a weak ETag). It costs one request and no reading, and is another than the hash
    of the same bytes in a local file, so that ids made from it depend on the store. Raises RemoteError."""
    system, path = _opened(url)
    return _identity(url, _again(url, lambda: system.info(path)))


def _opened(url: str) -> tuple[Any, str]:
    try:
        return _connect(url)
    except InputError as error:  # a worker knows OSErrors alone
        raise RemoteError(str(error)) from None


def _identity(url: str, info: dict[str, Any]) -> str | None:
    large = info.get("lfs") or {}
    names = [large.get("sha256"), info.get("blob_id"), info.get("md5Hash"), info.get("ETag"), info.get("etag"), info.get("crc32c")]
    names += [info.get("Content-MD5"), info.get("Digest")]
    name = next((str(name) for name in names if name and not str(name).startswith("W/")), None)
    if name is None:
        return None
    # A web server makes an ETag of date and size as a rule: two files of one build may share it.
    place = url if url.startswith(("http://", "https://")) else ""
    return xxhash.xxh3_128_hexdigest(f"{name}\n{info.get('size')}\n{place}".encode())


class _Object(io.RawIOBase):
    def __init__(self, url: str, expected: str) -> None:
        self._url = url
        self._system, self._path = _opened(url)
        info = _again(url, lambda: self._system.info(self._path))
        if info.get("type") == "directory":
            raise RemoteError(f"{shown(url)}: a folder")
        if expected and (_identity(url, info) or expected) != expected:
            raise ChangedError(f"{shown(url)}: the object is not the one that was planned. Run the build again")
        self._size = info.get("size")
        self._web = url.startswith(("http://", "https://"))
        tag = str(info.get("ETag") or "")
        self._extra: dict[str, Any] = {"headers": {"If-Match": tag}} if self._web and tag.startswith('"') else {}
        self._file: Any = None
        self._copy: BinaryIO | None = None
        self._at = 0
        self._block, self._start, self._ahead = b"", 0, _FIRST_BLOCK // 2
        if self._size is None or info.get("partial") is False:
            self._copy_all()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        assert self._size is not None
        self._at = max(0, offset + (0, self._at, int(self._size))[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        assert self._size is not None
        count = min(len(buffer), int(self._size) - self._at)
        if count <= 0:
            return 0
        if not self._copy and not self._start <= self._at < self._start + len(self._block):
            self._fetch(count)
        if self._copy:
            self._copy.seek(self._at)
            piece = self._copy.read(count)
        else:
            piece = self._block[self._at - self._start : self._at - self._start + count]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def _fetch(self, wanted: int) -> None:
        """The block at the position, larger from one to the next while they lie in order."""
        in_order = self._at == self._start + len(self._block)
        self._ahead = min(2 * self._ahead, _BLOCK) if in_order else _FIRST_BLOCK
        size = min(max(wanted, self._ahead), int(self._size or 0) - self._at)
        try:
            self._block, self._start = _again(self._url, lambda: self._range(size)), self._at
        except _NoRangesError:
            self._copy_all()

    def _range(self, size: int) -> bytes:
        if self._file is None:
            known = {"size": self._size} if self._web else {}
            self._file = self._system.open(self._path, "rb", block_size=_BLOCK, cache_type="none", **known, **self._extra)
        try:
            self._file.seek(self._at)
            data = cast(bytes, self._file.read(size))
        except ValueError as error:
            if self._web and "range requests" in str(error):
                raise _NoRangesError from None
            raise
        if len(data) != size:
            raise EOFError(f"{len(data):,} bytes came instead of {size:,}")
        return data

    def _copy_all(self) -> None:
        self._copy = _again(self._url, self._copied)
        self._size = self._copy.seek(0, 2)
        self._block = b""

    def _copied(self) -> BinaryIO:
        copy = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  closed with the object
        try:
            streamed = {"block_size": 0} if self._web else {}
            with self._system.open(self._path, "rb", **streamed) as file:
                shutil.copyfileobj(file, copy, 1 << 20)
            if self._size is not None and copy.tell() != self._size:
                raise EOFError(f"{copy.tell():,} bytes came instead of {self._size:,}")
        except BaseException:
            copy.close()
            raise
        return copy

    def close(self) -> None:
        for file in (self._file, self._copy):
            if file is not None:
                file.close()
        super().close()
