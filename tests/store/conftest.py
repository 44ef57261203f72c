"""Stores for tests: a folder that any OS user may enter, and a running Postgres to share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from db.embedded import EmbeddedPostgres
from db.store import Store
from tests.store.page import Make, maker
from tests.store.world import World


@pytest.fixture(scope="session")
def public_tmp() -> Iterator[Path]:
    """A folder that every OS user may enter: as root, Postgres runs as another user."""
    folder = Path(tempfile.mkdtemp(prefix="campaign-tests-")).resolve()
    folder.chmod(0o755)
    yield folder
    _end_servers_below(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def embedded_store(public_tmp: Path) -> Iterator[EmbeddedPostgres]:
    """One running Postgres for every test that does not stop or break it."""
    with EmbeddedPostgres(public_tmp / "shared" / "store") as store:
        yield store


@pytest.fixture
def place(public_tmp: Path) -> Iterator[Path]:
    """A folder of this test's own; servers that a failed test left there are ended."""
    folder = Path(tempfile.mkdtemp(dir=public_tmp))
    folder.chmod(0o755)
    yield folder
    _end_servers_below(folder)
    shutil.rmtree(folder)


@pytest.fixture
def empty(store: Store) -> Store:
    """The store of the test's own file, emptied."""
    World(store)
    return store


@pytest.fixture
def make(store: Store, tmp_path: Path) -> Make:
    """A function that writes a report of the store of the test's own file and returns its text."""
    return maker(store, tmp_path)


def _end_servers_below(folder: Path) -> None:
    left = []
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and Path(process.cwd()).is_relative_to(folder):
                process.kill()
                left.append(process)
        except psutil.Error:
            continue
    psutil.wait_procs(left, timeout=30)
