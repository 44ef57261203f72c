"""What a person sees: the live block, warnings among its lines, tables in narrow terminals."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from campaign.cluster.berths import Berth
from campaign.running.fleet import Flight
from campaign.running.ledger import Sparing
from campaign.running.live import Live, Snapshot, _block
from campaign.tabular import print_table
from db.errors import StoreUnavailable
from db.store import Store


def test_the_block_fits_80_columns_without_wrapping() -> None:
    snapshot = Snapshot(
        campaign="quickstart", done=3, failed=1, left=8, measuring=("vllm llama-28m on cpu",),
        energy_j=None, energy_estimated_j=1234.0, reality="real", eta_s=200.0,
    )  # fmt: skip
    console = Console(width=80, record=True, file=StringIO())
    console.print(_block(snapshot))
    lines = console.export_text().splitlines()
    assert len(lines) == 3, lines
    assert lines[1].strip() == snapshot.words


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("{}: the engine proposes no tokens", "unsupported: the engine proposes no tokens"),
        ("loading {}: CUDA is not there", "unsupported: loading: CUDA is not there"),
        ("no room", "unsupported: no room"),
        (None, "unsupported"),
    ],
)
def test_a_line_on_an_engine_names_it_once(said: str | None, shown: str) -> None:
    engine = SimpleNamespace(label="vllm a/model on l4")
    berth = Berth(node="n1", name="host7", board="l4", boards=1)
    flight = Flight(assignment=SimpleNamespace(engine=engine), berth=berth,  # type: ignore[arg-type]
                    actor=None, running=None, where=None)  # fmt: skip
    error = said and said.format(engine.label)
    assert flight.news("unsupported", error) == f"vllm a/model on l4, host7: {shown}"


def test_warnings_of_the_program_stand_among_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Live():
        logging.getLogger("campaign.store").warning("the disk is full")
    logging.getLogger("campaign.store").warning("nobody listens")
    assert capsys.readouterr().err.count("the disk is full") == 1


#: What is said goes to a pipe of this process that nobody reads.
UNREAD = """
from campaign.running.live import Live
with Live() as live:
    live.say("loading")
    live.say("measured")
print("went on")
"""


@pytest.mark.parametrize("forced", [{}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}])
def test_what_nobody_reads_ends_nothing_though_it_is_shown_as_on_a_terminal(
    forced: dict[str, str],
) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    try:
        done = subprocess.run([sys.executable, "-c", UNREAD], env=os.environ | forced, check=False,
                              stdout=subprocess.PIPE, stderr=writes, text=True)  # fmt: skip
    finally:
        os.close(writes)
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_a_store_that_stays_away_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    store = Store("postgresql+psycopg://me@127.0.0.1:1/d", patience_s=1.0)
    with pytest.raises(StoreUnavailable, match=r"start its server, or correct store\.url"):
        store.retrying(lambda _: None)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "postgresql+psycopg://me@127.0.0.1:1/d does not answer" in said


def test_a_table_wraps_its_text_where_the_terminal_is_narrow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    print_table(("engine", "n"), [("transformers SmolLM2-135M on a long board", 7)], stream=out)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert max(map(len, lines)) <= 40
    assert "──" in lines[1]
    assert lines[2].endswith("7")


# ---- how often the store is asked ---------------------------------------------------------------


class Clock:
    """A clock that is moved by hand, and by an answer that takes its time."""

    def __init__(self, takes_s: float) -> None:
        self.now_s, self.takes_s, self.asked = 100.0, takes_s, 0

    def __call__(self) -> float:
        return self.now_s

    def ask(self) -> int:
        self.asked += 1
        self.now_s += self.takes_s
        return self.asked


def test_an_answer_that_takes_long_is_asked_for_rarely() -> None:
    clock = Clock(takes_s=2.0)
    look = Sparing(clock.ask, share=0.1, clock=clock)
    assert [look(), look()] == [1, 1]
    clock.now_s += 17.9
    assert look() == 1
    clock.now_s += 0.2  # two seconds are a tenth of the time again
    assert look() == 2


def test_an_answer_can_be_asked_for_afresh() -> None:
    clock = Clock(takes_s=2.0)
    look = Sparing(clock.ask, share=0.1, clock=clock)
    assert [look(), look(fresh=True), look()] == [1, 2, 2]


def test_an_answer_that_takes_nothing_is_always_new() -> None:
    clock = Clock(takes_s=0.0)
    look = Sparing(clock.ask, share=0.1, clock=clock)
    assert [look(), look(), look()] == [1, 2, 3]
