"""From axes to tasks: every point is a task, an exclusion or the same as another."""

from __future__ import annotations

import csv
import json
from collections import Counter
from itertools import combinations
from math import prod
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign.catalogue.catalog import load_catalog
from campaign.configuration.config import load
from campaign.configuration.overrides import CONF
from campaign.grids.fit import Grid
from campaign.grids.grid import expand
from campaign.grids.keys import Keys
from db.errors import ConfigError
from db.identity import task_key
from db.records import Board, Reality, Task, Weights, Workload

HERE = Board(slug="cpu:xeon:2", memory_bytes=24 * 2**30)
CATALOG = load_catalog()
PROTOCOL = load([]).protocol


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
@settings(max_examples=6)
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


workload_strategy = st.builds(
    Workload,
    input_tokens=st.integers(1, 9),
    output_tokens=st.integers(1, 9),
    batch_size=st.integers(1, 9),
    requests=st.none() | st.integers(1, 9),
    lengths=st.sampled_from(["fixed", "translation", 'a "trace"\\ é']),
    arrival=st.sampled_from(["static", "poisson"]),
    rate_rps=st.none() | st.sampled_from([1, 1.0, 2.5]),
    temperature=st.sampled_from([1, 1.0, 0.7]),
)


@given(st.lists(workload_strategy, max_size=8), st.integers(0, 3), st.sampled_from(Reality))
def test_the_keys_of_a_grid_are_those_of_the_identity(
    workloads: list[Workload], replicate: int, reality: Reality
) -> None:
    keys = Keys(PROTOCOL, reality)
    key = keys.of("ab12", replicate)
    for work in workloads:
        assert key(keys.ending(work)) == task_key("ab12", work, PROTOCOL, reality, replicate)


# ---- how requests arrive, and how their tokens are chosen --------------------------------------


def test_an_engine_is_loaded_in_the_mode_that_its_arrivals_need() -> None:
    both = grid("workload.arrival=[static,at_once,closed,poisson]", "workload.rate_rps=[1,2]")
    assert {(t.engine.mode, t.workload.arrival, t.workload.rate_rps) for t in both.tasks} == {
        ("offline", "static", None), ("offline", "at_once", None), ("online", "closed", None),
        ("online", "poisson", 1.0), ("online", "poisson", 2.0),
    }  # fmt: skip
    # Nobody but the engine holds back requests that come by themselves.
    places = {(t.workload.arrival, t.engine.options.get("max_num_seqs")) for t in both.tasks}
    assert places == {("static", None), ("at_once", None), ("closed", None), ("poisson", 1)}
    assert len({id(t.engine) for t in both.tasks}) == 3
    assert (
        load(["workload.arrival=[static,poisson]", "workload.rate_rps=[1,2]"]).blocks["grid"].points
        == 3
    )
    online = grid("engine.mode=[auto,online]")
    assert sorted(t.engine.mode for t in online.tasks) == ["offline", "online"]


def test_a_list_longer_than_the_batch_has_an_engine_of_its_own_per_batch_size() -> None:
    asked = ("workload.arrival=at_once", "workload.batch_size=[2,4]", "workload.requests=[4,16]")
    for task in grid(*asked).tasks:
        size, requests = task.workload.batch_size, task.workload.requests
        most = task.engine.options.get("max_num_seqs")
        assert most == (None if requests == size else size)
    found = grid(*asked, "engine.options.vllm.max_num_seqs=4")
    assert {e.workload.batch_size for e in found.exclusions if e.workload} == {2}
    assert {e.reason for e in found.exclusions} == {"batch_limit"}


@pytest.mark.parametrize("arrival", ["at_once", "closed"])
def test_a_load_that_its_engine_has_too_few_places_for_is_left_out(arrival: str) -> None:
    asked = (f"workload.arrival={arrival}", "workload.batch_size=[4,8]")
    found = grid(*asked, "engine.options.vllm.max_num_seqs=4")
    assert {t.workload.batch_size for t in found.tasks} == {4}
    assert {e.reason for e in found.exclusions} == {"batch_limit"}
    assert not grid(*asked, "engine.options.vllm.max_num_seqs=8").exclusions


def test_values_without_a_use_make_no_points() -> None:
    found = grid("workload.decoding=[greedy,beam,sample]", "workload.beams=[2,4]",
                 "workload.temperature=[0.7,1.0]", "workload.top_p=[0.9,1.0]",
                 "engine.options.vllm.enable_prefix_caching=true")  # fmt: skip
    asked = {(t.workload.decoding, t.workload.beams, t.workload.temperature, t.workload.top_p)
             for t in found.tasks}  # fmt: skip
    assert len(asked) == len(found.tasks) == 1 + 2 + 4
    assert ("greedy", 1, 1.0, 1.0) in asked
    assert ("beam", 4, 1.0, 1.0) in asked
    assert ("sample", 1, 0.7, 0.9) in asked


def test_a_draft_is_a_model_of_the_catalogue_with_the_weights_of_its_target() -> None:
    found = grid("model=meta-llama/Llama-3.1-8B", "weights=real", "board=h100-sxm-80gb",
                 "engine.speculation=[null,ngram,meta-llama/Llama-3.2-1B]",
                 "engine.speculative_tokens=[2,4]")  # fmt: skip
    assert len(found.tasks) == 1 + 2 + 2
    drafts = [t.engine for t in found.tasks if t.engine.speculation == "draft_model"]
    assert {(e.draft and e.draft.name, e.draft and e.draft.weights) for e in drafts} == {
        ("meta-llama/Llama-3.2-1B", Weights.REAL)
    }
    assert sorted(e.speculative_tokens or 0 for e in drafts) == [2, 4]
    with pytest.raises(ConfigError, match="model gpt3: not in the catalogue"):
        grid("engine.speculation=gpt3", "engine.speculative_tokens=4")


def test_the_commit_of_a_draft_is_part_of_the_key() -> None:
    asked = load(["model=meta-llama/Llama-3.1-8B", "weights=real", "board=h100-sxm-80gb",
                  "engine.speculation=meta-llama/Llama-3.2-1B",
                  "engine.speculative_tokens=4"])  # fmt: skip
    name = "meta-llama/Llama-3.2-1B"
    keys = {expand(asked, CATALOG, [HERE], {name: c}).tasks[0].key for c in ("abc", "def")}
    assert len(keys) == 2


def test_lengths_that_nobody_knows_and_lengths_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="lengths=sumarisation is none of fixed, translation"):
        grid("workload.lengths=sumarisation")
    with pytest.raises(ConfigError, match="arrival=trace needs the times of a trace"):
        grid("workload.lengths=translation", "workload.arrival=trace")
    with pytest.raises(ConfigError, match=r"blocks\.a\.workload: output_tokens=8"):
        grid("blocks={a:{workload:{lengths:translation,output_tokens:8}}}")
    with pytest.raises(ConfigError, match="nowhere"):
        grid("workload.lengths=./nowhere.csv")


def test_a_trace_of_which_nothing_fits_is_refused_and_read_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMPAIGN_HOME", str(tmp_path / "home"))
    file = tmp_path / "mine.csv"
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n1,5000,16\n2,400,900\n")
    words = (f"workload.lengths=[fixed,{file}]", "workload.output_tokens=64")
    why = "input_tokens=512 and output_tokens=64 leave out every request of .*mine.csv"
    with pytest.raises(ConfigError, match=why) as raised:
        grid(*words, "workload.input_tokens=[512,5000]")
    assert "\n" not in str(raised.value)
    assert len(grid(*words, "workload.input_tokens=5000").tasks) == 2
    assert list(tmp_path.iterdir()) == [file]


def test_a_trace_that_is_not_fetched_is_excluded_where_it_runs() -> None:
    asked = load(["workload.lengths=[azure-2023-conv,translation]"])
    found = expand(asked, CATALOG, (HERE,), absent={"azure-2023-conv": "fetch it"})
    assert [t.workload.lengths for t in found.tasks] == ["translation"]
    assert [(e.reason, e.detail) for e in found.exclusions] == [("not_fetched", "fetch it")]


# ---- what the shipped grids cover --------------------------------------------------------------


def catalogued(file: str) -> list[dict[str, str]]:
    with (CONF / "catalog" / file).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_prompts_to_power_covers_its_models_ablations_and_board_configurations() -> None:
    blocks = load(["+grid=prompts_to_power"]).blocks
    shapes = {json.dumps(CATALOG.model(name).architecture, sort_keys=True)
              for axes in blocks.values() for name in axes.model}  # fmt: skip
    roots = [row["hf_id"] for row in catalogued("models.csv") if "C" in row["papers"]]
    changed = [f"{r['base']}@{r['size']}={r['value']}" for r in catalogued("ablations.csv")]
    assert (len(roots), len(changed)) == (55, 100)
    wanted = {json.dumps(CATALOG.model(name).architecture, sort_keys=True)
              for name in (*roots, *changed)}  # fmt: skip
    assert shapes == wanted
    groups = {(axes.board[0], axes.tensor_parallel[0])
              for name, axes in blocks.items() if name.startswith("tokens.")}  # fmt: skip
    assert groups == {(r["board"], int(r["count"])) for r in catalogued("configurations.csv")}
    assert len(groups) == 21


def test_energy_considerations_covers_its_boards_and_models() -> None:
    settings = load(["+grid=energy_considerations"])
    assert set(settings.boards) == {"rtx-a6000", "rtx-6000-ada", "a100-pcie-80gb"}
    known = {CATALOG.model(name).architecture["vocab_size"] for name in settings.models}
    assert known == {128256, 152064, 50304}  # Llama 3, Qwen, OLMo
    lengths = {name for axes in settings.blocks.values() for name in axes.lengths}
    assert {row["name"] for row in catalogued("tasks.csv")} < lengths


# ---- the design of the joint optimisations ----------------------------------------------------


def levels(task: Task) -> tuple[int, ...]:
    """The five factors of a point, each as -1 or 1."""
    engine = task.engine
    second = (engine.tensor_parallel == 2, task.workload.arrival == "at_once",
              engine.options["enforce_eager"] is True, engine.quantization == "fp8",
              engine.speculation is not None)  # fmt: skip
    return tuple(1 if it_is else -1 for it_is in second)


def test_every_main_effect_and_two_factor_interaction_can_be_told_apart() -> None:
    found = grid("+grid=joint_optimizations", here=())
    assert not found.exclusions
    for batch in (8, 64):
        runs = [levels(task) for task in found.tasks if task.workload.batch_size == batch]
        assert len(runs) == len(set(runs)) == 16
        effects = [c for size in (0, 1, 2) for c in combinations(range(5), size)]
        columns = {c: [prod(run[factor] for factor in c) for run in runs] for c in effects}
        assert len(columns) == 1 + 5 + 10
        for one, other in combinations(effects, 2):
            assert sum(a * b for a, b in zip(columns[one], columns[other], strict=True)) == 0, (
                f"{one} cannot be told from {other}"
            )


# ---- folders -----------------------------------------------------------------------------------


def folders(tmp_path: Path, *names: str) -> list[str]:
    config = json.dumps(dict(CATALOG.model("opt-125m").architecture))
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(config)
    return [str(tmp_path / name) for name in names]


def test_two_folders_that_rows_would_call_alike_are_refused(tmp_path: Path) -> None:
    one, two, other = folders(tmp_path, "run-1/final", "run-2/final", "run-2/other")
    with pytest.raises(ConfigError) as refused:
        grid(f"model=[{one},{other},{two}]")
    assert str(refused.value) == (
        f"model: {one} and {two} would both be called final in rows: rename one of these folders"
    )
    assert len(grid(f"model=[{one},{one}/.,{other}]", "weights=[auto,random]").tasks) == 1


def test_a_model_and_its_draft_may_be_called_alike(tmp_path: Path) -> None:
    one, two = folders(tmp_path, "target/final", "draft/final")
    found = grid(f"model={one}", f"engine.speculation={two}", "engine.speculative_tokens=2")
    (exclusion,) = found.exclusions  # random weights propose nothing that is kept
    assert exclusion.engine.draft is not None
    assert exclusion.engine.model.name == exclusion.engine.draft.name == "final"
