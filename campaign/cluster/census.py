"""`campaign doctor --cluster`: every node, what it claims, what it holds, and what it can run.

Joins the running cluster and leaves it as it was: it starts no session and opens no store.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from campaign.catalogue.catalog import load_catalog
from campaign.cluster import nodes as cluster
from campaign.cluster.berths import homeless_lines
from campaign.cluster.here import absent_here, boards_here, reality_here
from campaign.cluster.rollcall import call
from campaign.cluster.roster import Judged, Roster
from campaign.configuration.settings import Settings
from campaign.grids.fit import Grid
from campaign.grids.grid import expand
from campaign.tabular import count_of, print_table, say, write_json
from db.errors import Infeasible

COLUMNS = ("node", "label", "NVML finds", "GPUs in Ray", "CPUs", "measures on")
BOARDS = ("board", "nodes", "boards", "largest group", "can run")

Row = Mapping[str, object]


def census(settings: Settings, *, as_json: bool) -> int:
    """Show the nodes and what they can run; returns 0, or 3 where nothing can run anywhere."""
    with cluster.joined(settings.cluster.address or "auto"):
        roster = call(settings)
    settings = replace(settings, cluster=replace(settings.cluster, kind="ray"))
    grid = _grid(settings, roster)
    kinds, absent = list(_kinds(roster, grid)), list(_absent(roster, grid))
    able = any(kind["tasks"] for kind in kinds)
    if as_json:
        nodes = [_row(judged) for judged in roster.nodes]
        left_out = [dict(zip(("board", "boards", "tasks"), group, strict=True)) for group in absent]
        write_json({"can_run": able, "nodes": nodes, "boards": kinds, "left_out": left_out})
    else:
        _show(roster, kinds, absent)
        say("this grid can run here" if able else "nothing of this grid can run here")
    return 0 if able else Infeasible.exit_code


def _grid(settings: Settings, roster: Roster) -> Grid:
    """Return what the configuration asks for, on the boards of the cluster where it says `here`."""
    if not roster.usable:
        return Grid(tasks=(), exclusions=())
    catalog = load_catalog(Path(settings.catalog) if settings.catalog else None)
    here, _ = boards_here(settings, catalog, roster)
    settings = replace(settings, reality=reality_here(settings, roster))
    return expand(settings, catalog, here, {}, absent_here(settings, roster))


def _row(judged: Judged) -> Row:
    """Return a node as data."""
    node, facts = judged.node, judged.node.facts
    return {
        "id": node.id,
        "name": node.name,
        "host": None if facts is None else facts.host,
        "label": node.label,
        "gpus_in_ray": node.gpus,
        "cpus": node.cpus,
        "found": [] if facts is None else list(facts.boards),
        "is_standin": facts is not None and facts.is_standin,
        "absent": {} if facts is None else facts.absent,
        "board": judged.board,
        "boards": judged.count,
        "why_not": judged.why_not,
    }


def _kinds(roster: Roster, grid: Grid) -> Iterator[Row]:
    """Yield each kind of board with its nodes and what of the grid they can run."""
    largest = _largest(roster)
    for slug, boards in sorted(roster.counts.items()):
        able = [task for task in grid.tasks if task.engine.board == slug
                and task.engine.board_count <= largest[slug]]  # fmt: skip
        yield {
            "board": slug,
            "nodes": sum(judged.board == slug for judged in roster.usable),
            "boards": boards,
            "largest_group": largest[slug],
            "models": sorted({task.engine.model.name for task in able}),
            "tasks": len(able),
            "excluded": sum(e.points for e in grid.exclusions if e.engine.board == slug),
        }


def _absent(roster: Roster, grid: Grid) -> Iterator[tuple[str, int, int]]:
    """Yield the groups that no node holds: slug, boards, and the tasks that want them."""
    largest = _largest(roster)
    wanted = Counter((t.engine.board, t.engine.board_count) for t in grid.tasks)
    for (slug, count), tasks in sorted(wanted.items()):
        if count > largest.get(slug, 0):
            yield slug, count, tasks


def _largest(roster: Roster) -> dict[str, int]:
    """Return the boards of the node that has the most of a kind, by slug."""
    found: dict[str, int] = {}
    for judged in roster.usable:
        slug = judged.board or ""
        found[slug] = max(found.get(slug, 0), judged.count)
    return found


def _show(roster: Roster, kinds: Sequence[Row], absent: Sequence[tuple[str, int, int]]) -> None:
    print_table(COLUMNS, [_line(judged) for judged in roster.nodes], stream=sys.stderr)
    for refused in roster.refused:
        say(refused.line)
    if kinds:
        print_table(BOARDS, [_summary(kind) for kind in kinds], stream=sys.stderr)
    for line in homeless_lines(absent):
        say(line)


def _line(judged: Judged) -> tuple[object, ...]:
    node, facts = judged.node, judged.node.facts
    held = Counter(board.slug for board in facts.boards) if facts else Counter[str]()
    found = ", ".join(f"{count} x {slug}" for slug, count in sorted(held.items()))
    idle = "nothing" if judged.why_not else "not asked"
    return (
        node.name,
        node.label or "none",
        found or "not known",
        node.gpus,
        node.cpus,
        f"{judged.count} x {judged.board}" if judged.board else idle,
    )


def _summary(kind: Row) -> tuple[object, ...]:
    models = kind["models"]
    assert isinstance(models, list)  # noqa: S101 - made by `_kinds`
    named = ", ".join(models) if len(models) <= 3 else count_of(len(models), "model")  # noqa: PLR2004
    tasks = count_of(int(str(kind["tasks"])), "task")
    return (
        kind["board"],
        kind["nodes"],
        kind["boards"],
        kind["largest_group"],
        f"{tasks}: {named}" if models else "nothing of this grid",
    )
