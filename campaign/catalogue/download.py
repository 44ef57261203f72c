"""Downloading one file: continued where an earlier try broke off, and never taken for whole.

Owns HTTP and the file aside that a download grows in. Knows nothing of what the file is.
"""

from __future__ import annotations

import fcntl
import http
import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from db.errors import ConfigError

BLOCK_BYTES = 1 << 20
TIMEOUT_S = 30.0


def download(url: str, aside: Path, size: int | None) -> None:
    """Bring a URL into a file aside, from the byte where that ends if the server can.

    `size` is how long the whole is, None where nobody said. What has come stays for the next try.
    Raises ConfigError with the reason.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{url} is no http:// or https:// address")
    aside.parent.mkdir(parents=True, exist_ok=True)
    with aside.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another download writes {aside}; wait for it") from None
        _require_room(aside, (size or 0) - stream.tell())
        try:
            _take(url, stream, size)
        except (OSError, http.client.HTTPException) as error:
            raise ConfigError(f"{url}: {_reason(error)}{_kept(aside)}") from error


def _take(url: str, stream: BinaryIO, size: int | None) -> None:
    """Append what is missing, or all of it again where the server does not continue."""
    have = stream.tell()
    if size is not None and have == size:
        return
    request = urllib.request.Request(url)  # noqa: S310 - http alone, checked above
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310 - same
    except urllib.error.HTTPError as error:
        if not have or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        stream.truncate(0)  # what is here is longer than what is there: another file
        answer = urllib.request.urlopen(url, timeout=TIMEOUT_S)  # noqa: S310 - same
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            stream.truncate(0)
        begun = stream.seek(0, 2)
        shutil.copyfileobj(answer, stream, BLOCK_BYTES)
        stream.flush()
        length = answer.headers.get("Content-Length")
        if length is not None and stream.tell() - begun < int(length):
            raise ConnectionError(f"broke off after {stream.tell()} bytes")


def _require_room(aside: Path, missing: int) -> None:
    free = shutil.disk_usage(aside.parent).free
    if missing > free:
        raise ConfigError(
            f"{missing / 1e6:,.0f} MB are missing and {aside.parent} has room for "
            f"{free / 1e6:,.0f} MB: free some, or set CAMPAIGN_HOME to another disk"
        )


def _reason(error: BaseException) -> str:
    """Return why a download failed, in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _kept(aside: Path) -> str:
    have = aside.stat().st_size
    if have:
        return f"; {have / 1e6:,.1f} MB are kept, the same command continues"
    aside.unlink()
    return ""
