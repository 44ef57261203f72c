"""The configuration: what is composed, what wins over what, and that everything shipped loads."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from campaign.configuration.config import load
from campaign.configuration.overrides import CONF, GROUPS, SECTIONS, options
from campaign.configuration.redaction import redact
from campaign.configuration.settings import Settings
from db.errors import ConfigError
from db.records import Reality
from workers.validity import Gates
from workers.workloads.latency import GOODPUT, Deadlines, deadlines_of


def problems(*overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(overrides)
    return str(caught.value).splitlines()


def batches(settings: Settings) -> set[int]:
    return {size for axes in settings.blocks.values() for size in axes.batch_size}


def test_a_bare_campaign_has_one_point() -> None:
    settings = load([])
    assert list(settings.blocks) == ["grid"]
    assert settings.blocks["grid"].points == 1
    assert settings.reality is Reality.REAL
    assert (settings.store.lease_s, settings.store.beat_s) == (90, 15)


@pytest.mark.parametrize("grid", options("grid", [CONF]))
def test_every_shipped_grid_loads(grid: str) -> None:
    assert load([f"+grid={grid}"]).campaign == grid.replace("/", ".")


@pytest.mark.parametrize("protocol", options("protocol", [CONF]))
def test_every_protocol_carries_its_own_name(protocol: str) -> None:
    assert load([f"protocol={protocol}"]).protocol.name == protocol


@pytest.mark.parametrize(
    "choice",
    [f"{g}={o}" for g in ("meter", "workload") for o in options(g, [CONF])]
    + ["store=embedded", "cluster=local", "cluster=ray", "engine=vllm", "engine=transformers"],
)
def test_every_other_option_loads(choice: str) -> None:
    load([choice])


def test_the_shipped_grids_stay_within_what_they_promise() -> None:
    quickstart, smoke = load(["+grid=quickstart"]), load(["+grid=smoke"])
    assert sum(axes.points for axes in quickstart.blocks.values()) == 12
    assert quickstart.boards == ("here",)
    assert quickstart.protocol.name == "quick"
    assert sum(axes.points for axes in smoke.blocks.values()) == 1
    assert load(["+grid=simulated"]).reality is Reality.SIMULATED


def test_the_root_holds_exactly_the_keys_that_are_read() -> None:
    root = yaml.safe_load((CONF / "config.yaml").read_text())
    for section, names in SECTIONS.items():
        assert set(root.get(section, {})) <= set(names)
    assert set(GROUPS) <= {folder.name for folder in CONF.iterdir() if folder.is_dir()}


def test_an_axis_of_the_command_line_wins_over_every_block() -> None:
    settings = load(["+grid=quickstart", "workload.batch_size=[1,8]", "protocol.repeats=5"])
    assert {axes.batch_size for axes in settings.blocks.values()} == {(1, 8)}
    assert {axes.input_tokens for axes in settings.blocks.values()} == {(64,), (256,)}
    assert (settings.protocol.repeats, settings.protocol.repeats_max) == (5, 5)


def test_a_group_of_the_command_line_wins_over_the_grid() -> None:
    settings = load(["+grid=quickstart", "engine=transformers", "workload=batch"])
    assert {axes.backend for axes in settings.blocks.values()} == {("transformers",)}
    assert {axes.input_tokens for axes in settings.blocks.values()} == {(128,)}
    assert load(["+grid=quickstart", "protocol=publication"]).protocol.window_s == 30


def test_a_value_wins_over_the_group_beside_it() -> None:
    settings = load(["+grid=quickstart", "workload=batch", "workload.batch_size=3"])
    assert batches(settings) == {3}
    assert load(["protocol=quick", "protocol.window_s=1"]).protocol.window_s == 1


def test_several_engines_are_an_axis() -> None:
    assert load(["engine=[transformers,vllm]"]).blocks["grid"].backend == ("transformers", "vllm")


def test_several_meters_read_the_same_windows_and_are_no_axis() -> None:
    settings = load(["+grid=quickstart", "meter=[nvml,codecarbon]"])
    assert settings.meter.names == ("nvml", "codecarbon")
    assert settings.blocks == load(["+grid=quickstart"]).blocks
    assert load(["meter=rapl"]).meter.names == ("rapl",)
    assert load(["meter=[nvml,rapl]", "meter.names=[auto]"]).meter.names == ("auto",)
    assert problems("meter=nvml,codecarbon") == [
        "meter: 'nvml,codecarbon' names several options; write meter=[nvml,codecarbon]"
    ]
    assert problems("meter=[nvml,codecabron]")[0].endswith("did you mean codecarbon?")


def test_options_of_ones_own_add_their_meters(tmp_path: Path) -> None:
    (tmp_path / "meter").mkdir()
    (tmp_path / "meter" / "mine.yaml").write_text("names: [rapl]\ninterval_s: 0.05\n")
    meter = load([f"hydra.searchpath=['file://{tmp_path}']", "meter=[nvml,mine]"]).meter
    assert (meter.names, meter.interval_s) == (("nvml", "rapl"), 0.05)


def test_sensors_are_calibrated_by_board_or_gpu() -> None:
    meter = load(["meter.calibration.h100-sxm-80gb=0.03", "meter.calibration.GPU-0a-1=0.01"]).meter
    assert meter.calibration == {"h100-sxm-80gb": 0.03, "GPU-0a-1": 0.01}
    assert load([]).meter.calibration == {}
    (line,) = problems("meter.calibration.h100-sxm-80gb=3")
    assert "3 is no part of one; for 3 % write meter.calibration.h100-sxm-80gb=0.03" in line
    assert "not a number" in problems("meter.calibration.t4=good")[0]
    assert "above zero" in problems("meter.calibration.t4=0")[0]


def test_deadlines_of_goodput_are_milliseconds_by_the_names_of_the_benchmark() -> None:
    root = yaml.safe_load((CONF / "config.yaml").read_text())
    assert root["meter"]["goodput"] == dict.fromkeys(GOODPUT)
    closed = "workload.arrival=closed"
    assert load([closed]).meter.goodput == {}
    found = load([closed, "meter.goodput.ttft=500", "meter.goodput.e2el=2e3"]).meter.goodput
    assert found == {"ttft": 500.0, "e2el": 2000.0}
    assert deadlines_of(found) == Deadlines(ttft_s=0.5, e2e_s=2.0)
    assert deadlines_of(found).asked_ms == found


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["meter.goodput.ttf=500"], "meter.goodput.ttf: no such key; did you mean ttft?"),
        (["meter.goodput.ttft=-1"], "meter.goodput.ttft: -1 is out of range; it must be above zer"),
        (["meter.goodput.ttft=fast"], "meter.goodput.ttft: 'fast' is not a number; write for"),
        (["meter.goodput={ttft: 500, tpt: 3}"], "meter.goodput.tpt: no such key; did you mean tp"),
        (["meter.goodput.ttft=500", "workload.arrival=static"],
         "meter.goodput.ttft: has no use without requests under load; leave it out, or write"),
    ],
)  # fmt: skip
def test_a_deadline_that_cannot_be_is_one_line(overrides: list[str], line: str) -> None:
    asked = overrides if len(overrides) > 1 else ["workload.arrival=closed", *overrides]
    (found,) = problems(*asked)
    assert found.startswith(line)


def test_the_gates_have_every_threshold_in_the_configuration() -> None:
    root = yaml.safe_load((CONF / "config.yaml").read_text())
    assert root["meter"]["gates"] == {f.name: f.default for f in fields(Gates)}


def test_a_block_keeps_the_flags_a_value_does_not_name() -> None:
    settings = load(["+grid=quickstart", "engine.options.vllm.max_num_seqs=[4,8]"])
    vllm = settings.blocks["opt"].options["vllm"]
    assert vllm["max_num_seqs"] == (4, 8)
    assert vllm["enforce_eager"] == (True,)


def test_a_backend_takes_flags_that_were_not_there() -> None:
    found = load(["engine.options.vllm.block_size=16"]).blocks["grid"].options
    assert found["vllm"]["block_size"] == (16,)
    assert "block_size" not in found["transformers"]


def test_blocks_can_be_dotted_or_nested_and_removed() -> None:
    nested = load(["blocks={a:{workload:{batch_size:[1,2]}},b:{}}", "workload.output_tokens=7"])
    dotted = load(["blocks={a:{workload.batch_size:[1,2]},b:{}}", "workload.output_tokens=7"])
    assert nested.blocks == dotted.blocks
    assert nested.blocks["b"].batch_size == (1,)
    assert "opt" not in load(["+grid=quickstart", "~blocks.opt"]).blocks


def test_axes_that_vary_together_are_a_list_of_pairs() -> None:
    pairs = "{board:l4,engine.tensor_parallel:2},{board:t4,engine:{dtype:float16}}"
    found = load([f"blocks={{a:{{workload.batch_size:[1,2],each:[{pairs}]}},b:{{}}}}"]).blocks
    assert list(found) == ["a.1", "a.2", "b"]
    assert (found["a.1"].board, found["a.1"].tensor_parallel) == (("l4",), (2,))
    assert (found["a.2"].board, found["a.2"].dtype) == (("t4",), ("float16",))
    assert found["a.2"].tensor_parallel == (1,)
    assert found["a.1"].batch_size == found["a.2"].batch_size == (1, 2)
    assert "is no list of axes" in problems("blocks={a:{each:{board:l4}}}")[0]
    assert problems("blocks={a:{each:[{baord:l4}]}}")[0].startswith(
        "blocks.a.1.baord: no such axis"
    )


def test_two_grids_are_the_union_of_their_blocks_each_over_its_own_axes() -> None:
    both = load(["+grid=[smoke,quickstart]"]).blocks
    smoke, quickstart = load(["+grid=smoke"]).blocks, load(["+grid=quickstart"]).blocks
    assert both == {"smoke": smoke["grid"], **quickstart}
    narrowed = load(["+grid=[smoke,quickstart]", "workload.batch_size=3", "~blocks.opt"]).blocks
    assert {axes.batch_size for axes in narrowed.values()} == {(3,)}
    assert set(both) - set(narrowed) == {"opt"}


def test_blocks_of_one_name_in_two_grids_are_both_kept(tmp_path: Path) -> None:
    (tmp_path / "grid" / "deep").mkdir(parents=True)
    for name, size in (("one", 2), ("deep/two", 3)):
        (tmp_path / "grid" / f"{name}.yaml").write_text(
            f"# @package _global_\nblocks: {{same: {{workload.batch_size: {size}}}}}\n"
        )
    found = load([f"hydra.searchpath=['file://{tmp_path}']", "+grid=[one,deep/two]"]).blocks
    assert {name: axes.batch_size for name, axes in found.items()} == {
        "same": (2,), "deep_two_same": (3,)
    }  # fmt: skip


def grids(folder: Path, **contents: str) -> str:
    """Write grids of one's own; returns the override that finds them."""
    (folder / "grid").mkdir()
    for name, content in contents.items():
        (folder / "grid" / f"{name}.yaml").write_text(f"# @package _global_\n{content}\n")
    return f"hydra.searchpath=['file://{folder}']"


def test_a_union_refuses_what_its_grids_disagree_about_until_the_command_line_decides() -> None:
    asked = "+grid=[sweet_spots,quickstart]"
    (line,) = problems(asked)
    assert line == (
        "protocol: grid sweet_spots has default, grid quickstart quick; one holds for both: "
        "add protocol=quick or protocol=default"
    )
    for name, energy in (("default", "measured"), ("quick", "any")):
        both = load([asked, f"protocol={name}"])
        assert (both.protocol.name, both.protocol.energy) == (name, energy)
    assert [line.partition(":")[0] for line in problems("+grid=[full,smoke,simulated]")] == [
        "protocol", "cluster"
    ]  # fmt: skip


def test_a_single_key_that_grids_disagree_about_is_named(tmp_path: Path) -> None:
    found = grids(tmp_path, a="meter: {names: [nvml, rapl]}\nreplicates: 2",
                  b="protocol: {energy: any}\nreplicates: 2", c="run: {seed: 3}")  # fmt: skip
    meter, protocol = sorted(problems(found, "+grid=[a,b]"))
    assert meter == (
        "meter.names: grid a has [nvml,rapl], grid b [auto]; one holds for both: "
        "add meter.names=[auto] or meter.names=[nvml,rapl]"
    )
    assert protocol == (
        "protocol.energy: grid a has measured, grid b any; one holds for both: "
        "add protocol.energy=any or protocol.energy=measured"
    )
    decided = ("protocol.energy=any", "meter=nvml")
    both = load([found, "+grid=[a,b]", *decided])
    assert (both.protocol.energy, both.meter.names, both.replicates) == ("any", ("nvml",), 2)
    assert [line.partition(":")[0] for line in problems(found, "+grid=[a,b,c]", *decided)] == [
        "replicates", "run.seed"
    ]  # fmt: skip


def test_facts_about_boards_are_laid_together_and_contradicted_by_none(tmp_path: Path) -> None:
    """The first and the last contradict each other, though neither does the one between them."""
    said = (
        "cluster: {{boards: {{{}}}}}\nrun: {{price_per_gpu_hour: {{{}}}}}\n"
        "meter: {{calibration: {{{}}}}}"
    )
    found = grids(
        tmp_path,
        a=said.format("l4: 1", "l4: 2", "l4: 0.03"),
        b=said.format("t4: 4", "t4: 1", "GPU-1: 0.02"),
        c=said.format("l4: 2", "l4: 3", ""),
        d="replicates: 1",
    )
    both = load([found, "+grid=[a,b]"])
    assert both.cluster.boards == {"l4": 1, "t4": 4}
    assert both.run.price_per_gpu_hour == {"l4": 2.0, "t4": 1.0}
    assert both.meter.calibration == {"l4": 0.03, "GPU-1": 0.02}
    assert problems(found, "+grid=[a,b,c]") == [
        f"{key}: grid a has {a}, grid c {c}; one holds for both: add {key}={c} or {key}={a}"
        for key, a, c in (("cluster.boards.l4", 1, 2), ("run.price_per_gpu_hour.l4", 2, 3))
    ]
    decided = ("cluster.boards.l4=2", "run.price_per_gpu_hour.l4=9")
    all_three = load([found, "+grid=[a,b,c]", *decided])
    assert all_three.cluster.boards == {"l4": 2, "t4": 4}
    assert all_three.run.price_per_gpu_hour == {"l4": 9.0, "t4": 1.0}


def test_boards_that_are_found_are_no_boards_that_are_declared(tmp_path: Path) -> None:
    found = grids(tmp_path, a="cluster: {boards: {l4: 1}}", b="replicates: 1")
    (line,) = problems(found, "+grid=[a,b]")
    assert line.endswith("grid a has 1, grid b null; one holds for both: add cluster.boards.l4=1")
    assert load([found, "+grid=[a,b]", "cluster.boards.l4=1"]).cluster.boards == {"l4": 1}


def test_a_secret_that_grids_disagree_about_is_not_shown(tmp_path: Path) -> None:
    found = grids(tmp_path, a="store: {url: 'postgresql://u:hunter2@h/a'}", b="owner: null")
    (line,) = problems(found, "+grid=[a,b]")
    assert line.startswith("store.url: grid a has postgresql://u:")
    assert "hunter2" not in line


def test_a_union_is_called_by_all_its_grids_or_as_it_is_told(tmp_path: Path) -> None:
    assert load(["+grid=[smoke,quickstart]"]).campaign == "smoke-quickstart"
    assert load(["+grid=[smoke,quickstart]", "campaign=mine"]).campaign == "mine"
    found = grids(tmp_path, a=f"campaign: {'a' * 40}", b=f"campaign: {'b' * 40}")
    (line,) = problems(found, "+grid=[a,b]")
    assert line.endswith("is too long a name for the union; add campaign=NAME")
    assert load([found, "+grid=[a,b]", "campaign=mine"]).campaign == "mine"


def test_blocks_of_the_command_line_are_nobodys_copies() -> None:
    both = load(["+grid=[smoke,quickstart]", "blocks.more.workload.batch_size=3"]).blocks
    assert list(both) == [*load(["+grid=[smoke,quickstart]"]).blocks, "more"]
    changed = load(["+grid=[smoke,quickstart]", "blocks.opt.workload.batch_size=3"]).blocks
    assert list(changed) == list(load(["+grid=[smoke,quickstart]"]).blocks)
    assert changed["opt"].batch_size == (3,)
    (line,) = problems("+grid=[smoke,quickstart]", "~blocks.optt")
    assert line == "~blocks.optt: no such block; did you mean opt?"


@pytest.mark.parametrize(
    ("override", "models"),
    [
        ("model=a/b@layers=42", ["a/b@layers=42"]),
        ("model=[a/b@layers=42,a/b]", ["a/b@layers=42", "a/b"]),
        ("model=[a/b, ./c.d@kv_heads=1 ,'e/f@heads=2',\"g@heads=3\"]",
         ["a/b", "./c.d@kv_heads=1", "e/f@heads=2", "g@heads=3"]),
        ("model='a/b@layers=42'", ["a/b@layers=42"]),
        ("blocks.x={model: a/b@layers=42, workload.batch_size: 2}", ["a/b@layers=42"]),
        ("blocks={x:{model:[a/b@layers=42]}}", ["a/b@layers=42"]),
    ],
)  # fmt: skip
def test_the_name_of_an_ablation_needs_no_quotes(override: str, models: list[str]) -> None:
    assert [list(axes.model) for axes in load([override]).blocks.values()] == [models]


def test_what_needs_quotes_in_a_list_is_told_to_quote_each_name() -> None:
    (line,) = problems("model=[a=b,c]")
    assert line.endswith("put each name in quotes: ['a','b']")


SHIPPED = options("grid", [CONF])


def test_the_blocks_of_the_shipped_grids_have_names_of_their_own() -> None:
    """Hydra lays blocks of one name over one another: a union by `defaults` would mix them."""
    names = Counter(
        name
        for grid in SHIPPED
        for name in yaml.safe_load((CONF / "grid" / f"{grid}.yaml").read_text()).get("blocks", {})
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_full_holds_every_grid_of_a_paper_or_question_and_nothing_else() -> None:
    parts = set(SHIPPED) - {"quickstart", "smoke", "simulated", "full", "energy_considerations"}
    # What the papers claim, in small, for one board: the grids of the papers hold it at large.
    parts -= {grid for grid in parts if grid.startswith("gpu_validation")}
    blocks = {}
    for grid in parts:
        blocks |= load([f"+grid={grid}"]).blocks
    full = load(["+grid=full"])
    assert full.blocks == blocks
    assert (full.protocol.name, full.replicates) == ("default", 1)


def test_each_shipped_grid_says_at_its_top_what_it_is_for() -> None:
    for grid in SHIPPED:
        lines = (CONF / "grid" / f"{grid}.yaml").read_text().splitlines()
        assert lines[0] == "# @package _global_"
        assert lines[1].startswith("# ")
        if grid not in ("quickstart", "smoke", "simulated", "full"):
            assert "arXiv:" in "".join(line for line in lines if line.startswith("#")), grid


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        (["workload.rate_rps=2"], "workload.rate_rps", "has no use with workload.arrival=static"),
        (["workload.arrival=poisson"], "workload.rate_rps", "write workload.rate_rps=2"),
        (["workload.arrival=trace"], "workload.lengths", "name a trace"),
        (["workload.arrival=closed", "engine.mode=offline"], "engine.mode", "engine.mode=auto"),
        (["workload.beams=4"], "workload.beams", "write workload.decoding=beam"),
        (["workload.decoding=beam"], "workload.beams", "write workload.beams=4"),
        (["workload.temperature=0.7"], "workload.temperature", "write workload.decoding=sample"),
        (["workload.top_p=0.9"], "workload.top_p", "write workload.decoding=sample"),
        (["workload.decoding=sample", "workload.top_p=2"], "workload.top_p", "at most 1"),
        (["engine.speculative_tokens=4"], "engine.speculative_tokens", "engine.speculation=ngram"),
        (["engine.speculation=ngram"], "engine.speculative_tokens", "speculative_tokens=4"),
        (["workload.requests=3", "workload.batch_size=[1,8]"], "workload.requests", "batch of 8"),
        (["workload.prefix_tokens=128"], "workload.prefix_tokens", "less than"),
        (["budget.price=3"], "budget.price", "needs prices"),
    ],
)  # fmt: skip
def test_values_that_contradict_each_other_are_one_line(
    overrides: list[str], key: str, words: str
) -> None:
    (line,) = problems(*overrides)
    assert line.startswith(f"{key}: ")
    assert words in line


def test_contradictions_are_listed_with_every_other_problem() -> None:
    found = problems("workload.rate_rps=2", "workload.beams=4", "engine.dtype=bf16",
                     "workload.input_tokens=-1", "blocks={a:{workload.top_p:0.5}}")  # fmt: skip
    assert [line.partition(":")[0] for line in found] == [
        "engine.dtype", "workload.input_tokens", "workload.rate_rps", "workload.beams",
        "blocks.a.workload.top_p",
    ]  # fmt: skip


def test_a_grid_without_plus_is_the_same_grid() -> None:
    assert load(["grid=smoke"]) == load(["+grid=smoke"])


def test_a_folder_of_ones_own_adds_options(tmp_path: Path) -> None:
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "mine.yaml").write_text(
        "# @package _global_\ncampaign: mine\nworkload: {batch_size: [2, 4]}\n"
    )
    settings = load([f"hydra.searchpath=['file://{tmp_path}']", "+grid=mine"])
    assert settings.campaign == "mine"
    assert batches(settings) == {2, 4}


@pytest.mark.parametrize("content", ["model: facebook/opt-125m", "", "[1, 2]"])
def test_a_grid_that_does_not_say_where_it_belongs_is_told_how(
    tmp_path: Path, content: str
) -> None:
    found = grids(tmp_path, good="replicates: 2")
    (tmp_path / "grid" / "mine.yaml").write_text(content)
    for asked, name in (("+grid=mine", "grid=mine"), ("+grid=[good,mine]", "grid=mine")):
        assert problems(found, asked) == [
            f"{name}: the first line of a grid's file must be: # @package _global_"
        ]


def test_a_grid_that_cannot_be_read_says_what_of_it(tmp_path: Path) -> None:
    (line,) = problems(grids(tmp_path, mine='model: "${bad"'), "+grid=mine")
    assert line.startswith("configuration: no viable alternative at input '${bad'")
    assert "full_key: model" in line


def test_a_conf_folder_in_the_working_folder_is_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("campaign: shadow\n")
    monkeypatch.chdir(tmp_path)
    assert load([]).campaign == "default"


def test_every_problem_is_listed_at_once() -> None:
    found = problems("workload.batch_size=-1", "workload.input_tokens=abc", "engine.dtype=bf16",
                     "protocol.energy=maybe", "store.lease_s=0", "budget.hours=soon")  # fmt: skip
    keys = [line.partition(":")[0] for line in found]
    assert sorted(keys) == sorted(
        ["workload.batch_size", "workload.input_tokens", "engine.dtype", "protocol.energy",
         "store.lease_s", "store.beat_s", "budget.hours"]
    )  # fmt: skip


def test_a_problem_of_a_block_names_the_block() -> None:
    found = problems("blocks={a:{workload:{batch_size:0}},b:{batch_size:[1]}}")
    assert found == [
        "blocks.a.workload.batch_size: 0 is out of range; it must be at least 1",
        "blocks.b.batch_size: no such axis; did you mean workload.batch_size?",
    ]


def test_a_key_of_a_grid_file_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "odd.yaml").write_text(
        "# @package _global_\nworkloads: {batch_size: 2}\nstore: {lease: 3}\n"
    )
    found = problems(f"hydra.searchpath=['file://{tmp_path}']", "+grid=odd")
    assert found[0].startswith("workloads: no such key; did you mean workload")
    assert found[1].startswith("store.lease: no such key; did you mean lease_s")


def test_simulated_engines_and_simulated_boards_need_each_other() -> None:
    assert problems("cluster=simulated")[0].startswith("cluster=simulated: its boards cannot run")
    assert problems("engine=simulated")[0].endswith("add cluster=simulated")
    assert load(["cluster=simulated", "engine=simulated"]).reality is Reality.SIMULATED


def test_a_grid_beyond_any_use_is_refused_before_it_is_expanded() -> None:
    sizes = ",".join(map(str, range(1, 600)))
    found = problems(f"workload.batch_size=[{sizes}]", f"workload.input_tokens=[{sizes}]")
    assert "more than 250000" in found[0]


@pytest.mark.parametrize(
    "override",
    [
        "store.url=postgresql://u:hunter2@h/db",
        "store.url=postgresql+psycopg://u:hun@ter2@h/db",
        "store.url=postgresql://:hunter2@h/db",
        "store.url='postgresql://h/db?user=u&password=hunter2'",
        "store.password=hunter2",
        "+store.db_password=hunter2",
        "cluster.address=ray://u:hunter2@h:10001",
        "blocks={a:{model:'postgresql://u:hunter2@h/db'}}",
    ],
)
def test_a_password_is_refused_and_never_repeated(override: str) -> None:
    found = problems("workload.batch_size=0", override)
    assert len(found) == 1
    assert "PGPASSFILE" in found[0]
    assert "hunter2" not in found[0]
    assert "ter2" not in found[0]


def test_a_password_in_a_file_or_the_environment_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "ours.yaml").write_text("url: postgresql://u:hunter2@h/db\n")
    monkeypatch.setenv("OUR_STORE", "postgresql://u:hunter2@h/db")
    from_file = problems(f"hydra.searchpath=['file://{tmp_path}']", "store=ours")
    from_environment = problems("store.url=${oc.env:OUR_STORE}")
    for found in (from_file, from_environment):
        assert found[0].startswith("store.url: a password does not belong")
        assert "hunter2" not in found[0]


def test_redaction_keeps_what_is_no_password() -> None:
    url = "postgresql+psycopg://user@host:5432/db"
    assert redact(url) == url
    assert redact("x postgresql://u:p@h/db y password=p z") == (
        "x postgresql://u:***@h/db y password=*** z"
    )


def test_the_resolved_configuration_is_the_one_that_counts() -> None:
    resolved = yaml.safe_load(load(["+grid=smoke", "workload.batch_size=[1,8]"]).resolved)
    assert resolved["workload"]["batch_size"] == [1, 8]
    assert resolved["campaign"] == "smoke"
