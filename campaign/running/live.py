"""What a person sees while a campaign runs: progress, ETA and joules, on stderr.

A terminal gets a live block; a pipe gets a plain line whenever something changed. Nothing here
reads the store or decides anything.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from campaign.running.unread import let_go


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The campaign at one moment. `eta_s` is None where nothing here can run the rest.

    `ends_s` is the time until the run's deadline, None without one.
    """

    campaign: str
    done: int
    failed: int
    left: int
    measuring: tuple[str, ...]
    energy_j: float | None
    energy_estimated_j: float | None
    reality: str
    eta_s: float | None
    ends_s: float | None = None

    @property
    def total(self) -> int:
        """All tasks of the campaign."""
        return self.done + self.failed + self.left

    @property
    def joules(self) -> str:
        """Joules so far, in words: measured, else the estimate and that it is one."""
        if self.energy_j is not None:
            how = "measured" if self.reality == "real" else self.reality
            return f"{_si(self.energy_j)}J {how}"
        if self.energy_estimated_j is not None:
            return f"~{_si(self.energy_estimated_j)}J estimated, none measured"
        return "no joules yet"

    @property
    def words(self) -> str:
        """The numbers as one line."""
        eta = "" if self.eta_s is None or not self.left else f", ETA {clock(self.eta_s)}"
        if self.ends_s is not None and self.left:
            eta += f", ends in {clock(max(self.ends_s, 0.0))}"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done}/{self.total} done{failed}, {self.left} left{eta}, {self.joules}"


class Unread(Console):
    """A console that may be left by its reader; rich's own would end the program then."""

    def on_broken_pipe(self) -> None:
        """Say no more there."""
        let_go()


class Live(logging.Handler):
    """Shows snapshots on stderr until the ``with`` block ends, and warnings of `campaign` above."""

    def __init__(self) -> None:
        """Look whether stderr is a terminal."""
        super().__init__(logging.WARNING)
        self._console = Unread(stderr=True)
        self._rich = RichLive(console=self._console, refresh_per_second=4, transient=True)
        self._terminal = self._console.is_terminal
        self._last = ""

    def __enter__(self) -> Self:
        """Start the block on a terminal."""
        logging.getLogger("campaign").addHandler(self)
        if self._terminal:
            self._rich.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the block."""
        logging.getLogger("campaign").removeHandler(self)
        if self._terminal:
            with _read_or_not():
                self._rich.stop()

    def emit(self, record: logging.LogRecord) -> None:
        """Say a warning."""
        self.say(record.getMessage())

    def show(self, snapshot: Snapshot) -> None:
        """Show a snapshot; a pipe gets a line only when a count changed."""
        if self._terminal:
            self._rich.update(_block(snapshot))
            return
        state = f"{snapshot.done} {snapshot.failed} {snapshot.left}"
        if state != self._last:
            self._last = state
            self.say(f"{snapshot.campaign}: {snapshot.words}")

    def say(self, line: str) -> None:
        """Print a line that stays."""
        with _read_or_not():
            if self._terminal:
                self._console.print(Text(line))
            else:
                print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


@contextmanager
def _read_or_not() -> Iterator[None]:
    """Go on where nobody reads any more what a run says: it measures for the store."""
    try:
        yield
    except OSError:
        let_go()


def _block(snapshot: Snapshot) -> Group:
    bar = Table.grid(padding=(0, 1))
    total = max(snapshot.total, 1)
    finished = snapshot.done + snapshot.failed
    bar.add_row(
        Text(snapshot.campaign, style="bold"),
        ProgressBar(total=total, completed=finished, width=32),
    )
    words = Text(f"  {snapshot.words}")  # a line of its own: beside the bar it would wrap
    sessions = [Text(f"  measuring {label}", style="dim") for label in snapshot.measuring]
    return Group(bar, words, *sessions)


def _si(value: float) -> str:
    """Return a number with three digits and a metric prefix, ending in a space."""
    step = 1000.0
    for prefix in ("", "k", "M"):
        if abs(value) < step:
            return f"{value:.3g} {prefix}"
        value /= step
    return f"{value:.3g} G"


def clock(seconds: float) -> str:
    """Return seconds as a clock shows them, hours where there are any."""
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds_left:02}" if hours else f"{minutes}:{seconds_left:02}"
