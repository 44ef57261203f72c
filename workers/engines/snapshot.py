"""The weights of a hub repository at one commit: found in the hub's own cache, or downloaded to it.

A download is a process of its own, which is ended when it stands still: the hub's tools try again
for as long as a byte comes now and then, or the hub tells them to wait. Only safetensors and texts
are fetched, no pickles, no code. The token comes from the environment and is never stored.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from http import HTTPStatus
from pathlib import Path

import psutil

from db.errors import EngineFault
from workers.engines.faults import is_disk_full

#: What is fetched of a repository.
PATTERNS = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
#: A download of which less than this comes in so many seconds stands still.
LEAST_BYTES = 1_000_000
STALL_S = 120.0
#: As long may a hub take to say that a repository is there.
_ANSWER_S = 10.0
_POLL_S = 1.0
#: What a hub says that may give the weights another time.
_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600))


def snapshot(name: str, commit: str) -> Path:
    """Return the folder of a repository at a commit, fetched if need be; asks no hub otherwise.

    Raises EngineFault: ``missing_weights`` with the hub's words, permanent if it refuses;
    ``disk_full``.
    """
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    found = _kept(name, commit, repository)
    if found is None:
        _require_answer(name, commit)
        found = _downloaded(name, commit, repository)
    return found


def disk_full(what: Path | str) -> EngineFault:
    """Return the fault of a disk without room; another time there may be some."""
    return EngineFault("disk_full", f"the disk is full; {what} was not written: make room")


def _kept(name: str, commit: str, repository: Path) -> Path | None:
    """Return the folder in the cache; None unless all that the hub listed once is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not (repository / "trees" / f"{commit}.json").is_file():
        return None
    try:
        found = snapshot_download(
            name, revision=commit, allow_patterns=list(PATTERNS), local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    return Path(found)


def _require_answer(name: str, commit: str) -> None:
    """Raise EngineFault unless the hub has the repository; asks once, where a download insists."""
    from huggingface_hub import HfApi

    try:
        HfApi(token=_token()).model_info(name, revision=commit, timeout=_ANSWER_S)
    except Exception as error:  # of the hub, of the network, and of whichever library it asks with
        raise _fault(name, error) from error


def _downloaded(name: str, commit: str, repository: Path) -> Path:
    """Return the folder that a process of its own has brought. Raises EngineFault."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {"HF_HUB_VERBOSITY": "error", **os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-m", __name__, name, commit]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        try:
            said = _awaited(child, name, repository)
        except BaseException:
            _end(child)
            raise
    if not said:
        message = f"{name}: its download ended with code {child.returncode}"
        raise EngineFault("missing_weights", message)
    told = json.loads(said)
    if "folder" not in told:
        raise EngineFault(told["kind"], told["message"], permanent=told["permanent"])
    return Path(told["folder"])


def _awaited(child: subprocess.Popen[str], name: str, repository: Path) -> str:
    """Return what a download printed at its end. Raises EngineFault if it stands still."""
    from huggingface_hub import constants

    most, since_s = _bytes(repository), time.monotonic()
    while True:
        try:
            return child.communicate(timeout=_POLL_S)[0]
        except subprocess.TimeoutExpired:
            held, now_s = _bytes(repository), time.monotonic()
        if held >= most + LEAST_BYTES:
            most, since_s = held, now_s
        elif now_s - since_s > STALL_S:
            slow = f"less than {LEAST_BYTES / 1e6:g} MB came from {constants.ENDPOINT}"
            message = f"{name}: {slow} in {STALL_S:g} s; its whole files are kept, the same "
            raise EngineFault("missing_weights", f"{message}command continues")


def _bytes(folder: Path) -> int:
    """Return what the files below a folder take on the disk, holes left out."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.lstat().st_blocks * 512
        except FileNotFoundError:  # complete by now, under another name
            continue
    return total


def _end(child: subprocess.Popen[str]) -> None:
    """Kill a download and remove the parts of files that it would leave."""
    try:
        held = [Path(file.path) for file in psutil.Process(child.pid).open_files()]
    except psutil.Error:
        held = []
    child.kill()
    child.wait()
    for file in held:
        if file.suffix == ".incomplete":
            file.unlink(missing_ok=True)


def _token() -> str | bool:
    return os.environ.get("HF_TOKEN") or False


def _fault(name: str, error: Exception) -> EngineFault:
    """Return what an exception of the hub's tools means for the engine that wants the weights."""
    if is_disk_full(error):
        return disk_full(f"the snapshot of {name}")
    words = " ".join(str(error).split())[:300] or type(error).__name__
    return EngineFault("missing_weights", f"{name}: {words}", permanent=not _may_pass(error))


def _may_pass(error: BaseException | None) -> bool:
    """Whether a hub that gave nothing may give it later: busy or away, not refusing."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status in _BUSY
        if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
            return not isinstance(error, OfflineModeIsEnabled)
        error = error.__cause__ or error.__context__
    return False


def main(name: str, commit: str) -> None:
    """Download a repository and print its folder, or what went wrong, as a line of JSON."""
    from huggingface_hub import snapshot_download

    told: dict[str, object]
    try:
        folder = snapshot_download(
            name, revision=commit, allow_patterns=list(PATTERNS), token=_token()
        )
        told = {"folder": str(folder)}
    except Exception as error:  # noqa: BLE001 - of the hub, of the network, of any library it uses
        fault = _fault(name, error)
        told = {"kind": fault.kind, "message": str(fault), "permanent": fault.permanent}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
