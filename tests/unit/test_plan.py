"""`plan` through its real entry point: what it says, what it costs to ask, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from campaign.catalogue.catalog import load_catalog
from campaign.configuration.config import load
from campaign.forecast.calibrated import sources
from campaign.forecast.hours import COMPILE_S, START_S, Efforts
from campaign.forecast.outlook import check_budget, describe
from campaign.forecast.planshow import show
from campaign.grids.grid import expand
from db.errors import Infeasible
from db.records import ARRIVALS, DECODINGS, Board
from workers.costs.calibration import Correction

ROOT = Path(__file__).parents[2]
HERE = Board(slug="cpu:xeon:2", memory_bytes=24 * 2**30)
PHYSICAL = {"source": "physics", "energy_source": "physics"}
HEAVY = ("torch", "vllm", "transformers", "ray", "sqlalchemy", "psycopg", "numpy", "codecarbon")


def plan(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "campaign", "plan", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def described(
    *overrides: str, done: int | None = None, boards: int = 1, here: Mapping[str, int] | None = None
) -> dict[str, Any]:
    settings = load(overrides)
    grid = expand(settings, load_catalog(), [HERE])
    keys = None if done is None else {task.key for task in grid.tasks[:done]}
    return dict(describe(settings, grid, here or {HERE.slug: boards}, keys))


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


def test_one_task_of_one_engine_is_told_as_one() -> None:
    result = plan("+grid=smoke")
    assert "tasks      1, 1 engine\n" in result.stderr
    assert "1 engine load (" in result.stderr


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
    result = plan("+grid=quickstart", "budget.gpu_hours=0.001", "--json")
    assert result.returncode == 3
    assert json.loads(result.stdout)["tasks"] == 12
    (line,) = result.stderr.splitlines()
    assert "GPU-hours, more than budget.gpu_hours=0.001; narrow an axis or raise" in line


def test_asking_a_store_that_is_not_there_counts_zero_and_makes_none(tmp_path: Path) -> None:
    store = tmp_path / "store"
    result = plan("+grid=smoke", "--store", "--json", f"store.path={store}")
    assert json.loads(result.stdout)["done"] == 0, result.stderr
    assert not store.exists()


H100 = ("board=h100-sxm-80gb", "model=meta-llama/Llama-3.1-8B")


def test_hours_are_loads_warm_up_windows_and_idle_windows() -> None:
    found = described(*H100, "protocol.phases=none", "protocol.warmup_max=0")
    windows, idle, weights = 3 * 5, 3 * 10, 16.06 / 2
    assert found["estimated_hours"] == pytest.approx(
        (windows + idle + START_S + COMPILE_S + weights) / 3600, rel=0.05
    )
    assert found["engine_loads"] == 1
    warm = described(*H100, "protocol.phases=none")["estimated_hours"]
    twice = described(*H100, "protocol.phases=both")["estimated_hours"]
    assert found["estimated_hours"] < warm < twice


def test_a_batch_longer_than_a_window_takes_its_own_time() -> None:
    grid = expand(load([*H100, "workload.output_tokens=[64,4096]"]), load_catalog(), [])
    short, long = sorted(grid.tasks, key=lambda task: task.workload.output_tokens)
    efforts = Efforts(grid.boards)
    assert efforts.task(short).seconds < 20
    assert efforts.task(long).seconds > 3 * 4096 * 0.004


def test_many_requests_take_as_many_batches() -> None:
    overrides = (*H100, "workload.batch_size=8", "workload.requests=[8,1024]",
                 "workload.output_tokens=1024", "protocol.warmup_max=0")  # fmt: skip
    grid = expand(load(overrides), load_catalog(), [])
    few, many = sorted(grid.tasks, key=lambda task: task.workload.requests or 0)
    efforts = Efforts(grid.boards)
    assert efforts.task(many).seconds == pytest.approx(128 * efforts.task(few).seconds, rel=0.5)
    assert efforts.task(many).energy_j > 50 * efforts.task(few).energy_j


def test_requests_take_as_long_as_they_need_to_arrive() -> None:
    rates = (*H100, "workload.requests=100", "workload.arrival=poisson",
             "workload.rate_rps=0.1", "protocol.warmup_max=0")  # fmt: skip
    grid = expand(load(rates), load_catalog(), [])
    assert Efforts(grid.boards).task(grid.tasks[0]).seconds == pytest.approx(3 * 1000)


def test_energy_lies_between_idle_and_its_ceiling() -> None:
    found = described(*H100, "workload.batch_size=[1,64]")
    hours = found["gpu_hours"]
    assert (
        0.07 * hours < found["kwh"] < found["kwh_ceiling"] == pytest.approx(0.7 * hours, rel=1e-3)
    )
    capped = described(*H100, "workload.batch_size=[1,64]", "engine.power_limit_w=350")
    assert capped["kwh_ceiling"] == pytest.approx(0.35 * capped["gpu_hours"], rel=1e-3)


def test_what_is_not_known_is_none_and_never_zero() -> None:
    found = described("+grid=quickstart")
    assert (found["kwh"], found["kwh_ceiling"], found["carbon_g"]) == (None, None, None)
    assert found["tasks_without_energy"] == 12
    assert found["without_energy"] == {f"{HERE.slug}: its TDP or idle power is not known": 12}
    assert (found["price"], found["boards_without_price"]) == (None, [HERE.slug])


def test_price_and_carbon_are_said_where_they_are_configured() -> None:
    said = ("run.price_per_gpu_hour.h100-sxm-80gb=3", "run.carbon_intensity_g_per_kwh=200")
    found = described("model=gpt2", "board=[h100-sxm-80gb,l4]", *said)
    by_board = found["by_board"]
    assert found["price"] == pytest.approx(3 * by_board["h100-sxm-80gb"]["gpu_hours"], rel=1e-3)
    assert found["boards_without_price"] == ["l4"]
    assert found["carbon_g"] == pytest.approx(200 * found["kwh"], rel=1e-3)


def test_a_node_for_each_session_idles_its_other_boards() -> None:
    found = described(*H100, "engine.tensor_parallel=2")
    idled = found["isolation"]["idled_gpu_hours"]
    assert idled == pytest.approx(3 * found["gpu_hours"], rel=1e-3)  # six of eight, beside two
    assert described(*H100, "run.boards_per_node=1")["isolation"]["idled_gpu_hours"] == 0


def test_only_boards_that_are_there_idle_beside_a_session() -> None:
    """This machine's node holds what is here; that of a cluster, and of a kind not here, 8."""
    two = {"h100-sxm-80gb": 2}
    found = described(*H100, here=two)
    assert found["isolation"]["boards_per_node"] == two
    assert found["isolation"]["idled_gpu_hours"] == pytest.approx(found["gpu_hours"], rel=1e-3)
    assert described(*H100, "engine.tensor_parallel=2", here=two)["isolation"] == {
        "isolation": "node", "boards_per_node": two, "idled_gpu_hours": 0, "idled_kwh": 0,
    }  # fmt: skip
    cluster = described(*H100, "cluster=ray", here=two)["isolation"]
    assert cluster["idled_gpu_hours"] == pytest.approx(7 * found["gpu_hours"], rel=1e-3)
    assert described("+grid=quickstart")["isolation"]["idled_gpu_hours"] == 0


def test_idling_takes_idle_watts() -> None:
    isolation = described(*H100)["isolation"]
    idle_w = load_catalog().board("h100-sxm-80gb").idle_w or 0.0
    expected = isolation["idled_gpu_hours"] * idle_w / 1000
    assert isolation["idled_kwh"] == pytest.approx(expected, rel=1e-3)


def test_sessions_that_share_no_node_wait_for_each_other() -> None:
    """Four engines of one board each on a node of 8, or on two of them, or side by side."""
    four = (*H100[:1], "model=[gpt2,facebook/opt-125m,facebook/opt-350m,Qwen/Qwen2.5-0.5B]")

    def wall_h(count: int, *more: str) -> float:
        found = described(*four, "cluster=ray", *more, here={"h100-sxm-80gb": count})
        hours: float = found["by_board"]["h100-sxm-80gb"]["wall_hours"]
        return hours / found["gpu_hours"]

    assert wall_h(8) == pytest.approx(1, rel=1e-3)
    assert wall_h(16) == wall_h(9) == pytest.approx(1 / 2, rel=1e-3)
    assert wall_h(4, "run.boards_per_node=1") == wall_h(4, "cluster.isolation=gpu")
    assert 1 / 4 <= wall_h(4, "cluster.isolation=gpu") < 0.3


@pytest.mark.parametrize(
    ("isolation", "words"),
    [("node", "beside sessions with a node of their own, boards idle"),
     ("gpu", "a node of its own for each session would idle")],
)  # fmt: skip
def test_what_isolation_costs_is_said(
    isolation: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show({**described(*H100, f"cluster.isolation={isolation}"), **PHYSICAL})
    (line,) = (s for s in capsys.readouterr().err.splitlines() if s.startswith("  isolation"))
    assert words in line
    assert "at 8 boards a node" in line
    assert line.endswith("cluster.isolation=gpu fills them, without CPU energy") == (
        isolation == "node"
    )
    show({**described(*H100, "run.boards_per_node=1"), **PHYSICAL})
    assert "isolation" not in capsys.readouterr().err


def test_weights_are_counted_once_per_model_and_number_format() -> None:
    once = described(*H100, "workload.batch_size=[1,2]")["weights_gb"]
    assert once == pytest.approx(16.06, rel=0.01)
    assert described(*H100, "engine.tensor_parallel=[1,2]")["weights_gb"] == once
    both = described(*H100, "engine.dtype=[bfloat16,float16]")["weights_gb"]
    assert both == pytest.approx(2 * once, rel=0.01)


def test_hours_shrink_with_what_is_done_and_with_boards() -> None:
    whole = described("+grid=quickstart")
    some = described("+grid=quickstart", done=6)
    assert some["done"] == 6
    assert some["gpu_hours"] < whole["gpu_hours"]
    two = described("+grid=quickstart", boards=2)
    assert two["estimated_hours"] == pytest.approx(whole["estimated_hours"] / 2, rel=1e-3)
    assert two["gpu_hours"] == whole["gpu_hours"]
    assert described("+grid=quickstart", done=12)["estimated_hours"] == 0


def test_boards_that_are_not_here_are_one_group() -> None:
    found = described(*H100, "engine.tensor_parallel=[1,4]")["by_board"]["h100-sxm-80gb"]
    assert found["boards"] == 4
    assert found["wall_hours"] >= found["gpu_hours"] / 4


def test_kinds_of_boards_on_one_machine_take_turns_where_sessions_have_it_alone() -> None:
    overrides = ("model=gpt2", "board=[h100-sxm-80gb,l4]")
    both = {"h100-sxm-80gb": 1, "l4": 1}
    alone, apart = (described(*overrides, f"cluster.isolation={how}", here=both)
                    for how in ("node", "gpu"))  # fmt: skip
    hours = alone["board_hours"].values()
    assert alone["estimated_hours"] == pytest.approx(sum(hours), rel=1e-4)
    assert apart["estimated_hours"] == max(apart["board_hours"].values())
    elsewhere = described(*overrides, here={"l4": 1})
    assert elsewhere["estimated_hours"] == max(elsewhere["board_hours"].values())


def test_simulated_boards_have_no_hours() -> None:
    assert described("+grid=simulated")["estimated_hours"] is None


def test_excluded_points_are_counted_by_reason() -> None:
    found = described("board=[t4,here]", "engine.dtype=bfloat16",
                      "workload.input_tokens=[64,9000]", "replicates=2")  # fmt: skip
    assert found["excluded"] == {"dtype": 4, "context_too_long": 2}
    assert found["tasks"] == 2


@pytest.mark.parametrize("asked", ["auto", "random", "real", "[random,real]"])
def test_it_is_said_whether_weights_are_random(
    asked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = described("model=facebook/opt-125m", f"weights={asked}")
    kinds = {"auto": ["random"], "[random,real]": ["random", "real"]}.get(asked, [asked])
    assert found["weights"] == kinds
    show({**found, **PHYSICAL})
    line = f"  weights    {', '.join(kinds)}, {found['weights_gb']:.4g} GB on disk\n"
    assert line in capsys.readouterr().err


def test_a_load_that_its_gate_would_void_is_left_out_unless_the_gate_is_lower() -> None:
    load = ("board=l4", "model=facebook/opt-6.7b", "workload.input_tokens=500",
            "workload.arrival=at_once", "workload.batch_size=[20,100]")  # fmt: skip
    assert described(*load)["excluded"] == {"memory": 1}
    assert described(*load, "meter.gates.batch_reached=0.2")["excluded"] == {}


def test_an_open_commit_is_said() -> None:
    assert described("model=gpt2", "weights=real")["unresolved"] == ["openai-community/gpt2"]


def test_what_seconds_and_joules_rest_on_is_said_of_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    grid = expand(load([*H100, "engine=[vllm,transformers]"]), load_catalog(), [HERE])
    timed, metered = Correction(rows=4), Correction(rows=4, energy_rows=2)
    pairs = [("h100-sxm-80gb", backend) for backend in ("vllm", "transformers")]

    def said(*known: Correction) -> tuple[str, str]:
        found = sources(grid, dict(zip(pairs, known, strict=False)))
        return found["source"], found["energy_source"]

    assert said() == ("physics", "physics")
    assert said(metered, metered) == ("calibrated", "calibrated")
    assert said(metered, timed) == ("calibrated", "partly calibrated")
    assert said(timed, timed) == ("calibrated", "physics")
    assert said(timed) == ("partly calibrated", "physics")
    show({**described(*H100), "source": "calibrated", "energy_source": "physics"})
    shown = capsys.readouterr().err
    assert "calibrated by what was measured)" in shown
    assert "; joules from first principles" in shown


def test_the_budget_is_for_what_is_left() -> None:
    hours = described("+grid=quickstart")["gpu_hours"]
    settings = load(["+grid=quickstart", f"budget.gpu_hours={hours * 0.9}"])
    with pytest.raises(Infeasible, match=r"GPU-hours, more than budget\.gpu_hours"):
        check_budget(settings, described("+grid=quickstart"))
    check_budget(settings, described("+grid=quickstart", done=6))


@pytest.mark.parametrize(
    ("bound", "fix"),
    [("hours=0.001", "h, more than"), ("kwh=0.001", "kWh, more than"), ("price=0.01", "more than")],
)
def test_every_budget_refuses(bound: str, fix: str) -> None:
    overrides = (*H100, f"budget.{bound}", "run.price_per_gpu_hour.h100-sxm-80gb=3")
    with pytest.raises(Infeasible, match=f"{fix} budget"):
        check_budget(load(overrides), described(*overrides))


def test_a_budget_that_nobody_can_check_refuses() -> None:
    overrides = ("+grid=quickstart", "budget.kwh=5")
    with pytest.raises(Infeasible, match=r"budget\.kwh=5 cannot be checked"):
        check_budget(load(overrides), described(*overrides))


def test_a_budget_of_which_a_part_is_not_known_refuses() -> None:
    overrides = ("model=gpt2", "board=[h100-sxm-80gb,l4]", "budget.price=1000",
                 "run.price_per_gpu_hour.h100-sxm-80gb=3")  # fmt: skip
    with pytest.raises(Infeasible, match=r"cannot be checked: no run\.price_per_gpu_hour of l4"):
        check_budget(load(overrides), described(*overrides))


def test_options_that_nobody_can_check_are_said() -> None:
    (line,) = described("engine.version=0.9.2")["unchecked"]
    assert "they are not checked" in line
    assert described()["unchecked"] == []


def test_plan_lists_every_task_with_its_estimate() -> None:
    result = plan("+grid=simulated", "--list", "--json")
    listed = json.loads(result.stdout)["task_list"]
    assert len(listed) == 48
    assert all(task["seconds"] > 0 and task["joules"] > 0 for task in listed)


def test_the_parts_of_full_are_its_tasks() -> None:
    """A union that mixed two blocks would ask for points that no part asks for."""
    catalog = load_catalog()
    full = expand(load(["+grid=full"]), catalog, [])
    parts = [
        expand(load([f"+grid={part}"]), catalog, [])
        for part in ("prompts_to_power", "energy_considerations/batching",
                     "energy_considerations/tasks", "sweet_spots", "serving")
    ]  # fmt: skip
    keys = {task.key for task in full.tasks}
    assert len(keys) == len(full.tasks) > 29_000
    assert all(task.key in keys for part in parts for task in part.tasks)
    assert {t.engine.mode for t in full.tasks} == {"offline", "online"}
    assert {t.workload.arrival for t in full.tasks} == set(ARRIVALS)
    assert {t.workload.decoding for t in full.tasks} == set(DECODINGS)
    assert {t.engine.speculation for t in full.tasks} == {None, "ngram", "draft_model"}
