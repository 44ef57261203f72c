"""Commits of hub models: asked for once, frozen, and lost to those alone that the hub refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from campaign.grids.commits import Commits, resolve
from db.records import EngineSpec, ModelSpec, Weights
from tests.unit.hub import BUSY, COMMIT, NOBODY, Hub, serving

constants = pytest.importorskip("huggingface_hub.constants")

OPEN, GONE, OTHER = "acme/open", "acme/gone", "acme/other"
AWAY = "http://127.0.0.1:9"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving({}) as made:
        made.open = {OPEN, OTHER}
        monkeypatch.setattr(constants, "ENDPOINT", made.url)
        yield made


def test_what_a_hub_refuses_is_lost_with_its_words_and_the_others_are_known(hub: Hub) -> None:
    found = resolve([OPEN, GONE, OTHER], {})
    assert dict(found.known) == {OPEN: COMMIT, OTHER: COMMIT}
    assert list(found.lost) == [GONE]
    assert not found.away
    line = found.lost[GONE]
    assert line.startswith(f"model {GONE}: ")
    assert NOBODY[2] in line
    assert "HF_TOKEN" in line
    assert "\n" not in line


def test_a_frozen_commit_is_not_asked_for(hub: Hub) -> None:
    found = resolve([OPEN, OTHER], {OPEN: "c0de"})
    assert dict(found.known) == {OPEN: "c0de", OTHER: COMMIT}
    assert [line for line in hub.asked if OPEN in line] == []


def test_a_name_that_is_no_repository_s_is_refused(hub: Hub) -> None:
    found = resolve(["one/two/three", OPEN], {})
    assert list(found.lost) == ["one/two/three"]
    assert not found.away


def test_a_hub_that_is_away_is_asked_once_and_says_how_to_go_on(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", AWAY)
    found = resolve([OPEN, GONE, OTHER], {OTHER: "c0de"})
    assert dict(found.known) == {OTHER: "c0de"}
    assert found.away
    assert set(found.lost) == {OPEN, GONE}
    for name, line in found.lost.items():
        assert line.startswith(f"model {name}: {AWAY} did not answer")
        assert "weights=random" in line
        assert "\n" not in line


def test_a_hub_that_is_busy_is_away_and_not_asked_again(hub: Hub) -> None:
    hub.refused = {OPEN: BUSY}
    found = resolve([OPEN, OTHER], {})
    assert (found.away, set(found.lost), len(hub.asked)) == (True, {OPEN, OTHER}, 1)


def test_an_engine_misses_its_model_or_its_draft_but_nothing_that_is_drawn() -> None:
    commits = Commits(lost={GONE: "gone"})
    real = ModelSpec(name=OPEN, weights=Weights.REAL, commit=COMMIT)
    engine = EngineSpec(model=real, backend="vllm", board="l4")
    gone = replace(real, name=GONE, commit=None)
    assert commits.missing(engine) is None
    assert commits.missing(replace(engine, model=gone)) == "gone"
    assert commits.missing(replace(engine, draft=gone)) == "gone"
    assert commits.missing(replace(engine, model=replace(gone, weights=Weights.RANDOM))) is None
    assert commits.missing(replace(engine, model=replace(gone, folder="/here"))) is None
