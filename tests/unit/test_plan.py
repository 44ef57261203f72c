"""`plan` through its real entry point: what it says, what it costs to ask, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from campaign.catalog import load_catalog
from campaign.config import load
from campaign.grid import expand
from campaign.plan import check_budget, describe
from db.errors import Infeasible
from db.records import Board

ROOT = Path(__file__).parents[2]
HERE = Board(slug="cpu:xeon:2", memory_bytes=24 * 2**30)
HEAVY = ("torch", "vllm", "transformers", "ray", "sqlalchemy", "psycopg", "numpy", "codecarbon")


def plan(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "campaign", "plan", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def described(*overrides: str, done: int | None = None, boards: int = 1) -> dict[str, object]:
    settings = load(overrides)
    grid = expand(settings, load_catalog(), [HERE])
    keys = None if done is None else {task.key for task in grid.tasks[:done]}
    return dict(describe(settings, grid, {HERE.slug: boards}, keys))


def test_plan_prints_data_on_stdout_and_nothing_else() -> None:
    result = plan("+grid=quickstart", "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["campaign"], found["tasks"], found["engines"]) == ("quickstart", 12, 5)
    assert (found["done"], found["excluded"], found["unresolved"]) == (None, {}, [])
    assert sum(found["boards"].values()) == 12
    assert result.stderr == ""


def test_plan_speaks_to_people_on_stderr() -> None:
    result = plan("+grid=simulated")
    assert result.returncode == 0
    assert result.stdout == ""
    assert "48, 6 engines" in result.stderr
    assert "h100-sxm-80gb (16)" in result.stderr


def test_plan_imports_nothing_heavy() -> None:
    code = (
        "import sys; from campaign.cli import main; code = main(['plan', '+grid=quickstart']);"
        f"print([m for m in {HEAVY!r} if m in sys.modules], code)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True,
                            text=True, check=True, timeout=120)  # fmt: skip
    assert result.stdout.strip() == "[] 0"


def test_plan_works_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("campaign: shadow\n")
    result = subprocess.run(
        [sys.executable, "-m", "campaign", "plan", "+grid=smoke", "--json"], cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "USER": "someone"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert json.loads(result.stdout)["campaign"] == "smoke", result.stderr


def test_plan_prints_the_resolved_configuration() -> None:
    result = plan("+grid=smoke", "protocol.repeats=5", "--config")
    assert yaml.safe_load(result.stdout)["protocol"]["repeats"] == 5
    as_json = plan("+grid=smoke", "protocol.repeats=5", "--config", "--json")
    assert json.loads(as_json.stdout) == yaml.safe_load(result.stdout)


def test_plan_lists_tasks_with_their_keys() -> None:
    found = json.loads(plan("+grid=smoke", "--tasks", "--json").stdout)
    assert found["task_list"][0]["key"].startswith("v1:")


def test_a_grid_of_nothing_but_exclusions_is_shown_and_ends_with_three() -> None:
    result = plan("board=t4", "engine.dtype=bfloat16", "--json")
    assert result.returncode == 3
    assert json.loads(result.stdout)["excluded"] == {"dtype": 1}
    assert "every point of the grid is excluded (dtype 1)" in result.stderr


def test_a_plan_over_budget_is_shown_and_ends_with_three() -> None:
    result = plan("+grid=quickstart", "run.max_hours=0.001", "--json")
    assert result.returncode == 3
    assert json.loads(result.stdout)["tasks"] == 12
    assert "more than run.max_hours=0.001" in result.stderr


def test_asking_a_store_that_is_not_there_counts_zero_and_makes_none(tmp_path: Path) -> None:
    store = tmp_path / "store"
    result = plan("+grid=smoke", "--store", "--json", f"store.path={store}")
    assert json.loads(result.stdout)["done"] == 0, result.stderr
    assert not store.exists()


def test_hours_are_windows_and_idle_windows() -> None:
    found = described("protocol=publication", "workload.batch_size=[1,2]")
    whole_and_prefill = 2 * 5 * 30 * 2
    assert found["estimated_hours"] == pytest.approx((whole_and_prefill + 180) / 3600, abs=1e-4)
    assert "lower bound" in str(found["estimate"])
    steps = described("protocol=publication", "protocol.phases=steps", "workload.batch_size=[1,2]")
    assert steps["estimated_hours"] == pytest.approx((300 + 180) / 3600, abs=1e-4)


def test_hours_shrink_with_what_is_done_and_with_boards() -> None:
    whole = described("+grid=quickstart")["estimated_hours"]
    some = described("+grid=quickstart", done=6)
    assert some["done"] == 6
    assert isinstance(whole, float)
    assert isinstance(some["estimated_hours"], float)
    assert some["estimated_hours"] < whole
    two = described("+grid=quickstart", boards=2)["estimated_hours"]
    assert two == pytest.approx(whole / 2, abs=1e-4)
    assert described("+grid=quickstart", done=12)["estimated_hours"] == 0


def test_simulated_boards_have_no_hours() -> None:
    assert described("+grid=simulated")["estimated_hours"] is None


def test_excluded_points_are_counted_by_reason() -> None:
    found = described("board=[t4,here]", "engine.dtype=bfloat16",
                      "workload.input_tokens=[64,9000]", "replicates=2")  # fmt: skip
    assert found["excluded"] == {"dtype": 4, "context_too_long": 2}
    assert found["tasks"] == 2


def test_an_open_commit_is_said() -> None:
    assert described("model=gpt2", "weights=real")["unresolved"] == ["openai-community/gpt2"]


def test_the_budget_is_for_what_is_left() -> None:
    settings = load(["+grid=quickstart", "run.max_hours=0.015"])
    with pytest.raises(Infeasible, match=r"at least 0\.02 h"):
        check_budget(settings, described("+grid=quickstart"))
    check_budget(settings, described("+grid=quickstart", done=6))
