"""The live block fits a terminal of 80 columns."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from campaign.live import Snapshot, _block


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
