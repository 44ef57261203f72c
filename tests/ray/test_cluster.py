"""Campaigns on a cluster of several nodes: real Ray, real Postgres, boards behind the stand-in.

tests/ray/long_cluster.py goes on with more of the same.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.crash.site import Site, until
from tests.nvml.processes import gone
from tests.ray.nodes import gpus, raylet, sigterm

#: Every test starts nodes, a driver and sessions: minutes where the machine is busy.
pytestmark = [pytest.mark.store, pytest.mark.nvml, pytest.mark.timeout(900)]

RUN = (
    "cluster=ray", "engine=simulated", "protocol=quick", "campaign=cluster",
    "model=meta-llama/Llama-3.1-8B", "workload.input_tokens=64", "workload.output_tokens=8",
    "workload.batch_size=1", "store.retry_delay_s=0",
)  # fmt: skip
MODELS = "model=[meta-llama/Llama-3.1-8B,mistralai/Mistral-7B-v0.1]"
SESSIONS = """
select e.board, e.board_count, s.gpu_uuids from sessions s join engines e on e.id = s.engine_id
 order by 1, 2
"""
TOGETHER = """
select count(*) from sessions a join sessions b on a.id < b.id
   and tstzrange(a.started_at, a.ended_at) && tstzrange(b.started_at, b.ended_at)
"""
OUTCOMES = "select outcome, kind, count(*) from attempts group by 1, 2 order by 1, 2"
ENDED = """
select e.board, t.batch_size, t.state, t.reason, t.faults, t.attempts
  from tasks t join engines e on e.id = t.engine_id
"""
#: In the environment of a node: its boards have memory for two requests.
SHORT = """
from db.errors import TaskFault
from workers.engines.simulated import SimulatedEngine

generate = SimulatedEngine.generate


def short(self, requests, *args):
    if len(requests) > 2:
        raise TaskFault("out_of_memory", "no memory for a third")
    return generate(self, requests, *args)


SimulatedEngine.generate = short
"""
#: In the environment of a node: whatever it loads dies there, with a word.
DEADLY = """
import os, signal, sys
from workers.engines.simulated import SimulatedEngine


def load(self):
    print("the driver of this node is gone", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


SimulatedEngine.load = load
"""
#: In the environment of a node: what is loaded there computes nothing.
FAULTY = """
from db.errors import TaskFault
from workers.engines.simulated import SimulatedEngine


def generate(self, *args):
    raise TaskFault("engine_error", "an uncorrectable error of its memory")


SimulatedEngine.generate = generate
"""


def asked(site: Site, *more: str) -> tuple[str, ...]:
    """The overrides of a run, each key once: the later ones win."""
    given = {word.partition("=")[0]: word for word in (*RUN, *site.command, *more)}
    return tuple(given.values())


def held(site: Site, point: str) -> dict[str, str]:
    """The environment of a node on which the first session to reach a point is held."""
    return {"CAMPAIGN_HOLD_AT": point, "CAMPAIGN_HOLD_FOLDER": str(site.holds)}


def line_with(text: str, *words: str) -> str:
    """The one line that holds all words."""
    found = [line for line in text.splitlines() if all(word in line for word in words)]
    assert found, f"no line with {words} in:\n{text}"
    return found[0]


def read_until(run, word: str) -> str:
    """What a run says on stderr, up to the line that holds a word."""
    said = ""
    while word not in said:
        line = run.stderr.readline()
        assert line, f"ended before saying {word!r}:\n{said}"
        said += line
    return said


def all_gone(environment) -> bool:
    """Whether every process that an engine started has ended, and some were."""
    pids = [int(path.name) for path in Path(environment["CHILDREN"]).iterdir()]
    return bool(pids) and all(gone(pid) for pid in pids)


def states(said) -> dict[str, int]:
    return said["tasks"]


# ---- which node measures ----------------------------------------------------------------------


def test_every_engine_runs_on_the_boards_it_names_and_on_no_node_that_lies(site, add):
    add("h100-sxm-80g", gpus("h100-sxm-80gb", uuid="typo"))
    add("l40s", gpus("a10", uuid="liar"))
    add(None, gpus("t4", uuid="unlabelled"))
    add("l4", gpus("l4", processes=((4242, 1 << 30, 0.0, 0.0),)))
    add("a30", gpus("a30", mig=1))
    code, said, err = site.finish(site.start(asked(
        site, "board=[rtx-a6000,a100-sxm-80gb,h100-sxm-80gb,l4,l40s,a30]",
        "engine.tensor_parallel=[1,2,4]", "cluster.empty_wait_s=0",
    )))  # fmt: skip
    assert code == 4, err
    used = [(board, count, tuple(u.rpartition("-")[0] for u in uuids))
            for board, count, uuids in site.facts(SESSIONS) if board != "l4"]  # fmt: skip
    fits = {"rtx-a6000": (1,), "a100-sxm-80gb": (1, 2, 4), "h100-sxm-80gb": (1, 2)}
    assert used == [
        (board, count, (f"GPU-{board}",) * count)
        for board in sorted(fits) for count in fits[board]
    ]  # fmt: skip
    assert states(said)["done"] == 6
    line_with(err, "labelled h100-sxm-80g, no board", "did you mean h100-sxm-80gb", "holds h100")
    line_with(err, "labelled l40s, holds a10: refused")
    line_with(err, "no label campaign/board", "workers.label", "holds t4")
    line_with(err, "MIG is on", "a30")
    line_with(err, "GPU-l4-0 by pid 4242")
    line_with(err, "no node for 4 x h100-sxm-80gb: 1 task left")
    assert site.facts("select count(*) from attempts") == [(6,)]


def test_a_node_that_joins_and_lies_is_refused_by_its_session_and_a_true_one_measures(site, add):
    run = site.start(asked(
        site, "board=[rtx-a6000,l40s]", "cluster.boards={l40s:1}",
    ))  # fmt: skip
    read_until(run, "loading simulated meta-llama/Llama-3.1-8B on l40s, a node to come")
    add("l40s", gpus("a10", uuid="late-liar"))
    refusal = read_until(run, "is refused").splitlines()[-1]
    assert "labelled l40s, is refused: 1 x l40s is asked for, this session was given a10" in refusal
    add("l40s", gpus("l40s"))
    code, said, err = site.finish(run)
    assert (code, states(said)) == (0, {"done": 2}), err
    used = {board: uuids for board, _, uuids in site.facts(SESSIONS) if "liar" not in uuids[0]}
    assert used == {"rtx-a6000": ["GPU-rtx-a6000-0"], "l40s": ["GPU-l40s-0"]}


def test_a_session_that_nobody_can_place_is_given_up_and_keeps_nothing(site, fake_cluster):
    code, _, err = site.finish(site.start(asked(
        site, "board=l4", "cluster.boards={l4:1}", "cluster.creation_deadline_s=2",
    )))  # fmt: skip
    assert code == 3, err
    assert err.count("not_created: no session on a node to come within 2 s") == 2
    line_with(err, "no node for l4: 1 task left")
    line_with(err, "nothing here can run what is left")
    assert site.facts("select state from tasks") == [("pending",)]


def test_a_cluster_without_any_of_the_boards_is_refused_before_anything_starts(site):
    code, _, err = site.finish(site.start(asked(site, "board=b200-sxm")))
    assert code == 3
    line_with(err, "needs b200-sxm", "4 x a100-sxm-80gb", "2 x h100-sxm-80gb")
    assert not (site.folder / "store").exists()


# ---- company ----------------------------------------------------------------------------------


def test_sessions_do_not_share_a_node(site, add):
    company(site, add, "node", together=False)


def company(site, add, isolation, *, together):
    """Assert that two engines are, or are not, on a node of two boards at the same time."""
    add("l40s", gpus("l40s", 2), **held(site, "loaded"))
    run = site.start(asked(site, "board=l40s", MODELS, f"cluster.isolation={isolation}"))
    site.held_pid("loaded")
    if together:  # the one that nobody holds ends while the other is held
        until(lambda: site.facts("select count(*) from sessions where outcome = 'ended'") == [(1,)],
              "the second session ended")  # fmt: skip
    site.let_go("loaded")
    code, said, err = site.finish(run)
    assert (code, states(said)) == (0, {"done": 2}), err
    assert bool(site.facts(TOGETHER)[0][0]) is together
    assert len(site.facts("select distinct gpu_uuids from sessions")) == (2 if together else 1)


def test_two_rays_that_offer_the_same_board_never_measure_on_it_together(site, add):
    locks = str(site.folder / "locks")
    for _ in range(2):  # as two drivers on one host do, each with a Ray of its own
        add("l40s", gpus("l40s"), CAMPAIGN_LOCKS=locks, **held(site, "loaded"))
    run = site.start(asked(site, "board=l40s", MODELS, "cluster.board_wait_s=0"))
    site.held_pid("loaded")
    said = read_until(run, "held by another session of this host")
    assert said.count("loading simulated") == 2
    site.let_go("loaded")
    code, said, err = site.finish(run)
    assert (code, states(said)) == (0, {"done": 2}), err
    assert site.facts(TOGETHER) == [(0,)]


# ---- what dies --------------------------------------------------------------------------------


def test_a_killed_actor_is_replaced_and_leaves_no_process(site, add, parents):
    # The task in work there, here the next: with the result of the one before it was leased.
    killed(site, add, parents, {"l40s": "in_window", "a30": "written"}, lost=2)


def killed(site, add, parents, points, lost):
    """Assert that actors killed at a point on each board are replaced, and what they held lost."""
    for board, point in points.items():
        add(board, gpus(board), **held(site, point), **parents)
    run = site.start(asked(site, f"board=[{','.join(points)}]", "workload.batch_size=[1,2]"))
    for point in points.values():
        os.kill(site.held_pid(point), signal.SIGKILL)
    code, said, err = site.finish(run)
    assert (code, states(said)) == (0, {"done": 2 * len(points)}), err
    counted = {outcome: count for outcome, _, count in site.facts(OUTCOMES)}
    assert counted == {"ok": 2 * len(points), "lost": lost}
    assert all_gone(parents)


def test_a_node_that_loads_nothing_costs_no_engine_and_is_refused_once_that_is_known(
    site, add, tmp_path
):
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    add("l40s", gpus("l40s", uuid="bad"), python_path=tmp_path)
    add("l40s", gpus("l40s", uuid="good"), **held(site, "claimed"))
    models = MODELS.replace("]", ",Qwen/Qwen2.5-7B,facebook/opt-125m]")
    run = site.start(asked(site, "board=l40s", models))
    said = "".join(read_until(run, "see `campaign logs") for _ in range(3))
    site.let_go("claimed")
    code, found, err = site.finish(run)
    assert (code, states(found)) == (0, {"done": 4}), said + err
    died = "select error, stderr_tail from sessions where outcome = 'lost'"
    assert site.facts(died) == [("its process died", "the driver of this node is gone\n")] * 3
    line_with(err, "is refused", "loads elsewhere")


def test_a_node_that_computes_nothing_costs_an_engine_one_fault(site, add, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(FAULTY)
    add("l40s", gpus("l40s", uuid="bad"), python_path=tmp_path)
    add("l40s", gpus("l40s", uuid="good"), **held(site, "claimed"))
    run = site.start(asked(site, "board=l40s", MODELS))
    said = read_until(run, "loaded anew")
    site.let_go("claimed")
    code, found, err = site.finish(run)
    assert (code, states(found)) == (0, {"done": 2}), said + err
    assert site.facts(OUTCOMES) == [("faulted", "engine_error", 1), ("ok", None, 2)]


def test_a_node_that_dies_loses_one_attempt_and_the_others_go_on(site, add, parents):
    nodes = [add("l40s", gpus("l40s", uuid=name), **held(site, "in_window"), **parents)
             for name in "ab"]  # fmt: skip
    run = site.start(asked(site, "board=l40s", "workload.batch_size=[1,2]"))
    pid = site.held_pid("in_window")
    [first] = [n for n in nodes if psutil.Process(pid).ppid() == raylet(n).pid]
    raylet(first).kill()
    assert gone(pid)
    assert all_gone(parents)
    code, said, err = site.finish(run)
    assert (code, states(said)) == (0, {"done": 2}), err
    assert [row[::2] for row in site.facts(OUTCOMES)] == [("lost", 1), ("ok", 2)]
    assert len(site.facts("select distinct gpu_uuids from sessions")) == 2


def test_a_node_that_is_asked_to_go_gives_its_task_back_free_of_charge(site, add):
    nodes = [add("l40s", gpus("l40s", uuid=name), **held(site, "in_window")) for name in "ab"]
    run = site.start(asked(site, "board=l40s", "workload.batch_size=[1,2]"))
    pid = site.held_pid("in_window")
    [first] = [n for n in nodes if psutil.Process(pid).ppid() == raylet(n).pid]
    sigterm(first)
    assert gone(pid)
    code, said, err = site.finish(run)
    assert (code, states(said)) == (0, {"done": 2}), err
    assert [row[::2] for row in site.facts(OUTCOMES)] == [("ok", 2), ("released", 1)]
    assert site.facts("select sum(faults + losses + invalids) from tasks") == [(0,)]


def test_a_notice_of_preemption_lets_the_task_in_work_end_and_no_other_begin(site, add):
    import ray

    nodes = [add("l40s", gpus("l40s", uuid=name), **held(site, "in_window")) for name in "ab"]
    run = site.start(asked(site, "board=l40s", "workload.batch_size=[1,2,4]"))
    pid = site.held_pid("in_window")
    [first] = [n for n in nodes if psutil.Process(pid).ppid() == raylet(n).pid]
    client = ray._raylet.GcsClient(address=site.command[-1].partition("=")[2])
    notice = (2, "spot", (time.time_ns() + 600 * 10**9) // 10**6)  # preemption, in ten minutes
    assert client.drain_node(first.node_id, *notice)[0]
    read_until(run, "is leaving")
    site.let_go("in_window")
    code, said, err = site.finish(run)
    assert (code, states(said)) == (0, {"done": 3}), err
    assert [row[::2] for row in site.facts(OUTCOMES)] == [("ok", 3)]
    tasks = site.facts("select s.gpu_uuids[1], count(*) from attempts a join sessions s"
                       " on s.id = a.session_id group by 1 order by 2")  # fmt: skip
    assert [count for _, count in tasks] == [1, 2]


def test_a_driver_that_dies_leaves_no_process_on_the_nodes_and_is_resumed(site, add, parents):
    add("l40s", gpus("l40s"), **held(site, "in_window"), **parents)
    run = site.start(asked(site, "board=l40s", "workload.batch_size=[1,2]"))
    pid = site.held_pid("in_window")
    run.kill()
    run.communicate()
    assert gone(pid)
    assert all_gone(parents)
    code, said, err = site.finish(site.start(asked(site, "board=l40s",
                                              "workload.batch_size=[1,2]")))  # fmt: skip
    assert (code, states(said)) == (0, {"done": 2}), err


def test_a_node_without_memory_prunes_what_is_larger_there_and_nothing_elsewhere(site, add):
    (site.folder / "short").mkdir()
    (site.folder / "short" / "sitecustomize.py").write_text(SHORT)
    add("l40s", gpus("l40s"), python_path=site.folder / "short")
    sizes = (1, 2, 4, 8, 16, 32)
    code, said, err = site.finish(site.start(asked(
        site, "board=[l40s,h100-sxm-80gb]", f"workload.batch_size={list(sizes)}",
    )))  # fmt: skip
    assert code == 4, err
    ended = {"l40s": {}, "h100-sxm-80gb": {}}
    for board, size, *how in site.facts(ENDED):
        ended[board][size] = tuple(how)
    done, pruned = ("done", None, 0, 1), ("excluded", "out_of_memory", 0, 0)
    tried = ("quarantined", "faulted:out_of_memory", 3, 3)
    assert ended["h100-sxm-80gb"] == dict.fromkeys(sizes, done)
    short = ended["l40s"]
    assert (short[1], short[2], short[4]) == (done, done, tried)
    assert pruned in short.values()  # of those that were not tried before
    assert {short[size] for size in sizes[3:]} <= {pruned, tried}
    assert sum(states(said).values()) == 2 * len(sizes)


# ---- looking ----------------------------------------------------------------------------------


def test_the_doctor_shows_nodes_boards_mismatches_and_what_can_run(program, fake_cluster, add):
    add("l40s", gpus("a10", uuid="liar"))
    at = f"cluster.address={fake_cluster.address}"
    looked = program.run("doctor", "--cluster", "--json", at, *RUN, "engine.tensor_parallel=4")
    assert looked.returncode == 0, looked.stderr
    said = json.loads(looked.stdout)
    assert {(n["board"], n["boards"]) for n in said["nodes"] if n["board"]} == {
        ("rtx-a6000", 1), ("a100-sxm-80gb", 4), ("h100-sxm-80gb", 2),
    }  # fmt: skip
    assert [n["why_not"] for n in said["nodes"] if n["why_not"]] == [
        "labelled l40s, holds a10: refused"
    ]
    able = {kind["board"]: kind["models"] for kind in said["boards"]}
    assert able["a100-sxm-80gb"] == ["meta-llama/Llama-3.1-8B"]
    assert able["rtx-a6000"] == able["h100-sxm-80gb"] == []
    assert {"board": "h100-sxm-80gb", "boards": 4, "tasks": 1} in said["left_out"]
    table = program.run("doctor", "--cluster", at, *RUN, "board=b200-sxm")
    assert table.returncode == 3, table.stderr
    line_with(table.stderr, "4 x a100-sxm-80gb")
    line_with(table.stderr, "labelled l40s, holds a10: refused")
    line_with(table.stderr, "no node for b200-sxm")


def test_no_cluster_is_one_line(program):
    for verb in (("doctor", "--cluster"), ("run", *RUN)):
        refused = program.run(*verb, "cluster.address=127.0.0.1:1")
        assert refused.returncode == 2
        [line] = refused.stderr.strip().splitlines()
        assert "no Ray cluster at cluster.address=127.0.0.1:1" in line
