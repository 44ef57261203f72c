"""Who runs a Postgres of our own: an OS user, and what that user may enter and execute.

Postgres refuses to run as root, so root lends its store to an unprivileged user that exists:
the owner of the folder, else `postgres`, else `nobody`. Never creates a user, never changes the
owner of a file we did not make.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from db.errors import ConfigError

ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An OS user. `switch` is true when root has to become that user first."""

    name: str
    uid: int
    gid: int
    switch: bool

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        text: str = "",
        output: int = subprocess.PIPE,
        keep: Sequence[int] = (),
    ) -> str:
        """Run a program to its end, feed it `text`, return what it said. CalledProcessError.

        It inherits the descriptors in `keep` alone and no variable of ours, and has a session
        of its own, which Ctrl-C does not reach.
        """
        return (
            subprocess.run(
                [os.fspath(part) for part in argv],
                input=text,
                stdout=output,
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
            or ""
        )

    def launch(self, argv: Sequence[str | Path], *, log: int, keep: int) -> None:
        """Start a program that outlives us, writes to `log` and inherits only `keep`.

        A shell puts it in the background and ends: it is no child of ours, so never our zombie.
        """
        self.run(["/bin/sh", "-c", '"$@" &', "sh", *argv], output=log, keep=(keep,))

    def barrier(self, path: Path) -> Path | None:
        """Return the first part of an existing path that this user cannot enter or execute."""
        if not self.switch:
            return None
        script = 'for part; do test -x "$part" || { printf %s "$part"; exit; }; done'
        found = self.run(["/bin/sh", "-c", script, "sh", *reversed(path.parents), path])
        return Path(found) if found else None

    def open(self, path: Path, flags: int = 0) -> int:
        """Open a file to write, make it 0600 for this user if it is absent; follow no link."""
        flags |= os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        self.own(descriptor)
        return descriptor

    def own(self, made: Path | int) -> None:
        """Give a file or folder that we have just made to this user."""
        if self.switch and isinstance(made, int):
            os.fchown(made, self.uid, self.gid)
        elif self.switch:
            os.chown(made, self.uid, self.gid, follow_symlinks=False)


def account_for(folder: Path) -> Account:
    """Return the OS user who runs the store in this folder. ConfigError if it is not for us."""
    uid, owner = os.geteuid(), _owner(folder)
    if uid == 0:
        return _account(owner, folder) if owner else _unprivileged()
    ours = owner in (None, uid) or (owner == 0 and os.access(folder, os.W_OK | os.X_OK))
    if not ours:
        raise ConfigError(
            f"the store in {folder} belongs to OS user {_name(owner)}, you are {_name(uid)}: "
            "run as that user, or set CAMPAIGN_HOME to a folder of your own"
        )
    if _name(uid) == str(uid):
        raise ConfigError(
            f"Postgres does not run as user id {uid}, which has no account here: add one to "
            "/etc/passwd, run a container as a user of its image, or name a server with store.url"
        )
    return Account(name=_name(uid), uid=uid, gid=os.getegid(), switch=False)


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


def _name(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid).pw_name if uid is not None else "nobody"
    except KeyError:
        return str(uid)
