"""From axes to tasks: every point is a task, an exclusion or the same as another."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign.catalog import load_catalog
from campaign.config import load
from campaign.fit import Grid
from campaign.grid import expand
from db.errors import ConfigError
from db.records import Board, Reality, Weights

HERE = Board(slug="cpu:xeon:2", memory_bytes=24 * 2**30)
CATALOG = load_catalog()


def grid(*overrides: str, here: tuple[Board, ...] = (HERE,)) -> Grid:
    return expand(load(overrides), CATALOG, here)


def test_quickstart_is_twelve_tasks_on_what_is_here() -> None:
    found = grid("+grid=quickstart")
    assert len(found.tasks) == len({task.key for task in found.tasks}) == 12
    assert not found.exclusions
    assert {task.engine.board for task in found.tasks} == {HERE.slug}
    backends = Counter((t.engine.backend, t.engine.model.name) for t in found.tasks)
    assert backends["transformers", "facebook/opt-125m"] == 0
    assert len({t.engine.model.architecture["model_type"] for t in found.tasks}) == 3


def test_quickstart_finds_the_gpu_of_a_machine_that_has_one() -> None:
    found = grid("+grid=quickstart", here=(CATALOG.board("rtx-4090"),))
    assert {task.engine.board for task in found.tasks} == {"rtx-4090"}
    assert {task.engine.threads for task in found.tasks} == {None}


def test_a_backend_that_is_not_installed_is_excluded_with_what_installs_it() -> None:
    found = expand(load(["+grid=quickstart"]), CATALOG, (HERE,), absent={"vllm": "pip install it"})
    assert {task.engine.backend for task in found.tasks} == {"transformers"}
    assert {(e.reason, e.detail) for e in found.exclusions} == {("not_installed", "pip install it")}
    assert len(found.tasks) + sum(e.points for e in found.exclusions) == 12


def test_every_backend_gets_the_threads_of_the_board() -> None:
    found = grid("+grid=quickstart")
    assert {task.engine.threads for task in found.tasks} == {2}
    explicit = grid("+grid=quickstart", "engine.threads=2")
    assert {t.key for t in explicit.tasks} == {t.key for t in found.tasks}
    other = grid("+grid=quickstart", "engine.threads=1")
    assert not {t.key for t in other.tasks} & {t.key for t in found.tasks}


def test_a_backend_gets_its_own_flags_only() -> None:
    for task in grid("+grid=quickstart").tasks:
        assert ("enforce_eager" in task.engine.options) == (task.engine.backend == "vllm")


@given(
    st.sets(st.integers(1, 64), min_size=1, max_size=4),
    st.sets(st.integers(1, 64), min_size=1, max_size=3),
    st.integers(1, 3),
)
@settings(deadline=None, max_examples=12)
def test_the_grid_is_the_product_of_its_axes(
    batches: set[int], inputs: set[int], replicates: int
) -> None:
    found = grid(
        f"workload.batch_size={sorted(batches)}", f"workload.input_tokens={sorted(inputs)}",
        f"replicates={replicates}", "engine.options.vllm.max_num_seqs=[8,16]",
    )  # fmt: skip
    assert len({t.key for t in found.tasks}) == len(batches) * len(inputs) * replicates * 2


def test_points_that_two_blocks_share_are_one_task() -> None:
    found = grid(
        "blocks={a:{workload.batch_size:[1,2,4]},b:{workload.batch_size:[2,4,8]},c:{}}"
    )  # the third is the base, with batch size 1
    assert sorted(t.workload.batch_size for t in found.tasks) == [1, 2, 4, 8]
    assert len({id(t.engine) for t in found.tasks}) == 1


def test_replicates_come_one_after_the_other_each_in_its_own_order() -> None:
    sizes = "workload.batch_size=[1,2,3,4,5,6,7,8]"
    found = grid(sizes, "replicates=3")
    assert [t.replicate for t in found.tasks] == [0] * 8 + [1] * 8 + [2] * 8
    orders = {
        tuple(t.workload.batch_size for t in found.tasks if t.replicate == r) for r in range(3)
    }
    assert len(orders) == 3
    assert all(sorted(order) == list(range(1, 9)) for order in orders)


def test_the_order_follows_the_seed() -> None:
    sizes = "workload.batch_size=[1,2,3,4,5,6,7,8]"
    assert grid(sizes) == grid(sizes)
    other = grid(sizes, "run.seed=1")
    assert other.tasks != grid(sizes).tasks
    assert {t.key for t in other.tasks} == {t.key for t in grid(sizes).tasks}


def test_an_engine_that_cannot_work_is_one_exclusion_with_its_points() -> None:
    found = grid("board=[t4,l4]", "engine.dtype=bfloat16", "workload.batch_size=[1,2,4]",
                 "replicates=2")  # fmt: skip
    assert {t.engine.board for t in found.tasks} == {"l4"}
    (exclusion,) = found.exclusions
    assert (exclusion.engine.board, exclusion.workload) == ("t4", None)
    assert (exclusion.reason, exclusion.points) == ("dtype", 6)


def test_a_workload_that_cannot_work_is_an_exclusion_of_its_own() -> None:
    found = grid("model=facebook/opt-125m", "workload.input_tokens=[64,4000]", "replicates=2")
    (exclusion,) = found.exclusions
    assert exclusion.workload is not None
    assert (exclusion.workload.input_tokens, exclusion.points) == (4000, 2)
    assert exclusion.reason == "context_too_long"
    assert {t.workload.input_tokens for t in found.tasks} == {64}


def test_no_point_disappears() -> None:
    overrides = ("model=[gpt2,Qwen/Qwen2.5-72B,facebook/opt-125m]", "board=[t4,l4,here]",
                 "workload.input_tokens=[64,1500,4000]", "workload.batch_size=[1,64]",
                 "engine.dtype=[bfloat16,float16]", "engine.tensor_parallel=[1,8]")  # fmt: skip
    found = grid(*overrides)
    excluded = sum(exclusion.points for exclusion in found.exclusions)
    assert len(found.tasks) + excluded == load(overrides).blocks["grid"].points == 3 * 3 * 3 * 8
    assert {e.reason for e in found.exclusions} >= {"dtype", "memory", "context_too_long"}


def test_parallelism_takes_as_many_gpus_and_one_cpu_board() -> None:
    found = grid("engine.tensor_parallel=3", "board=[h100-sxm-80gb,here]")
    assert {(t.engine.board, t.engine.board_count) for t in found.tasks} == {
        ("h100-sxm-80gb", 3), (HERE.slug, 1)
    }  # fmt: skip


def test_simulated_rows_are_other_tasks() -> None:
    found = grid("+grid=simulated", here=())
    assert {task.reality for task in found.tasks} == {Reality.SIMULATED}
    assert len(found.tasks) == 48


def test_a_commit_of_real_weights_is_part_of_the_key() -> None:
    asked = load(["model=Qwen/Qwen2.5-0.5B", "weights=real"])
    name = "Qwen/Qwen2.5-0.5B"
    open_, old, new = (
        expand(asked, CATALOG, [HERE], commits).tasks[0]
        for commits in (None, {name: "abc"}, {name: "def"})
    )
    assert open_.engine.model.weights is Weights.REAL
    assert open_.engine.model.commit is None
    assert old.engine.model.commit == "abc"
    assert len({open_.key, old.key, new.key}) == 3


def test_every_unknown_name_is_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        grid("model=[gpt2,gpt3,./nowhere]", "board=[here,h100,gtx]")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "model gpt3", "model ./nowhere", "board h100", "board gtx"
    ]  # fmt: skip


def test_no_board_here_is_said() -> None:
    with pytest.raises(ConfigError, match="board here: no board was found"):
        grid(here=())


def test_auto_takes_the_number_format_a_board_is_fast_in() -> None:
    slow = Board(slug="cpu:old:2", dtype="float32")
    found = grid("board=[t4,l4,here]", here=[slow])
    assert {t.engine.board: t.engine.dtype for t in found.tasks} == {
        "t4": "float16", "l4": "bfloat16", "cpu:old:2": "float32",
    }  # fmt: skip
