"""What bins say of a trace, against the same trace measured on a simulated board."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from campaign.cli import main
from db.campaigns import create_campaign, enqueue
from db.records import Workload
from db.store import Store
from tests.store.test_session import LLAMA, assignment
from tests.store.world import ground, task
from workers.engines.limits import Limits
from workers.session import Session
from workers.workloads.traced import Traced
from workers.workloads.tracefiles import adopt, traces_folder

TRACE = Path(__file__).resolve().parents[1] / "data" / "traces" / "azure_2023_conv_30.csv"
INPUTS, OUTPUTS, BATCHES = (64, 512, 1536, 4096), (8, 64, 512), (1, 4)


@pytest.fixture
def store(embedded_store) -> Iterator[Store]:
    with ground(embedded_store, "replayed") as made:
        yield made


def measure(store: Store, lengths: str, folder: Path) -> None:
    """Measure a grid of bins, and the trace itself one request at a time and in fours."""
    grid = [
        task(batch, engine=LLAMA, input_tokens=i, output_tokens=o)
        for i in INPUTS for o in OUTPUTS for batch in BATCHES
    ]  # fmt: skip
    grid += [
        task(batch, engine=LLAMA, input_tokens=4096, output_tokens=512, lengths=lengths,
             requests=40)
        for batch in BATCHES
    ]  # fmt: skip
    job = assignment(store, batches=(1,))
    with store.begin() as connection:
        enqueue(connection, create_campaign(connection, "session", "tester", ""), grid)
    limits = Limits(context_tokens=8192, batch_size=4)
    rig = replace(job.rig, limits=limits, weights_folder=str(folder / "weights"))
    report = Session(replace(job, rig=rig), ()).run()
    assert report.outcomes == {"ok": len(grid)}


def drawn(lengths: str, folder: Path, path: Path) -> Path:
    """Write the requests that those tasks asked for as a trace of their own."""
    asked = Workload(input_tokens=4096, output_tokens=512, batch_size=1, lengths=lengths)
    pairs = islice(Traced(asked, folder).drawn(), 40)
    rows = (f"{second},{i},{o}" for second, (i, o) in enumerate(pairs))
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows, ""]))
    return path


def estimated(trace: Path, store: Store, most: int, capsys) -> dict[str, float]:
    words = ["--campaign", "session", "--bins", "rows", "--most-batch", str(most), "--json"]
    assert main(["analyze", "workload", str(trace), *words, f"store.url='{store.url}'"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["compared"] == 40
    (one,) = found["set_ups"]
    assert (one["how"], one["reality"]) == ("measured", "simulated")
    return {way: joules / 40 for way, joules in one["joules"].items()}


def test_interpolated_bins_foretell_a_replay_and_ceiling_bins_exceed_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(os.environ, "CAMPAIGN_HOME", str(tmp_path))
    lengths = adopt(TRACE, traces_folder())
    measure(store, lengths, tmp_path)
    with store.begin() as connection:
        took = dict(connection.exec_driver_sql(
            "select batch_size, joules_per_prompt from measurements where lengths <> 'fixed'"
        ).all())  # fmt: skip
    trace = drawn(lengths, traces_folder(), tmp_path / "drawn.csv")
    alone, fours = (estimated(trace, store, batch, capsys) for batch in BATCHES)
    assert alone["interpolated"] == pytest.approx(took[1], rel=0.03)
    assert alone["ceiling"] > 1.3 * took[1]
    # In fours that are not sorted by length, everybody waits for the longest.
    assert fours["interpolated"] < took[4]
