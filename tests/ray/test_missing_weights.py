"""A hub that does not give a model: its engine is quarantined with the words, the others run."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.conftest import Program
from tests.unit.hub import COMMIT, NOBODY, Hub, serving

pytest.importorskip("huggingface_hub")

OPEN, GONE = "openai-community/gpt2", "facebook/opt-125m"
RUN = (
    "run", "--json", "cluster=simulated", "engine=simulated", "protocol=quick", "campaign=lost",
    "board=rtx-a6000", "workload.batch_size=1", "workload.input_tokens=8",
    "workload.output_tokens=8",
)  # fmt: skip


@pytest.fixture
def hub(program: Program) -> Iterator[Hub]:
    """A hub that has one of the models; the program's own environment names it."""
    with serving({}) as made:
        made.open = {OPEN}
        program.environment |= made.environment(program.folder / "hub")
        yield made


def test_a_missing_repository_is_its_engine_s_quarantine_until_it_can_be_had(
    program: Program, hub: Hub
) -> None:
    first = program.run(*RUN, f"model=[{OPEN},{GONE}]", "weights=real")
    assert first.returncode == 4, first.stderr
    said = json.loads(first.stdout)
    assert said["tasks"] == {"done": 1, "quarantined": 1}
    assert [row["model"] for row in said["measurements"]] == [OPEN]
    [failed] = said["failed"]
    assert failed["reason"].startswith(f"engine:missing_weights: model {GONE}: ")
    assert NOBODY[2] in failed["reason"]
    for verb in (("status", "lost"), ("query", "failures")):
        shown = program.run(*verb)
        assert NOBODY[2] in shown.stdout + shown.stderr, verb
    hub.open.add(GONE)
    again = program.run(*RUN, f"model=[{OPEN},{GONE}]", "weights=real")
    assert again.returncode == 0, again.stderr
    said = json.loads(again.stdout)
    assert (said["tasks"], said["failed"]) == ({"done": 2}, [])
    commits = program.run("query", "select distinct model_commit from engines e join tasks t "
                          "on t.engine_id = e.id where t.state = 'done'", "--json")  # fmt: skip
    assert COMMIT in commits.stdout
    asked = [line for line in hub.asked if OPEN in line]
    assert len(asked) == 1  # the campaign keeps its commit


def test_a_hub_that_is_away_stops_only_what_it_leaves_nothing_of(
    program: Program, hub: Hub
) -> None:
    away = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    refused = program.run(*RUN, f"model=[{OPEN},{GONE}]", "weights=real", environment=away)
    assert refused.returncode == 2
    [line] = refused.stderr.strip().splitlines()
    assert "http://127.0.0.1:9 did not answer" in line
    assert "weights=random" in line
    gone = program.run(*RUN, f"model={GONE}", "weights=real")
    assert gone.returncode == 4, gone.stderr
    assert json.loads(gone.stdout)["tasks"] == {"quarantined": 1}
    mixed = program.run(*RUN, f"model={GONE}", "weights=[real,random]", environment=away)
    assert mixed.returncode == 4, mixed.stderr
    assert json.loads(mixed.stdout)["tasks"] == {"done": 1, "quarantined": 1}
    assert "no weights of 1 model" in mixed.stderr
