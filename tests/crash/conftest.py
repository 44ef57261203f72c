"""A fresh site for every crash test."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.crash.site import Site


@pytest.fixture
def site(program) -> Iterator[Site]:
    """A fresh site, its processes gone afterwards."""
    made = Site(program)
    yield made
    for process in made.ours():
        process.send_signal(signal.SIGKILL)
