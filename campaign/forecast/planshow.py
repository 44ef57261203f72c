"""A plan for people, on stderr: totals first, then what is left out, reason by reason."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from campaign.forecast.calibrated import CALIBRATED, PARTLY, PHYSICS
from campaign.forecast.outlook import Plan
from campaign.tabular import count_of

#: Names of a list that are printed before the rest is counted.
SHOWN = 12
#: What an estimate rests on, in words.
SOURCES = {
    PHYSICS: "from first principles",
    PARTLY: "partly calibrated by what was measured",
    CALIBRATED: "calibrated by what was measured",
}


def show(plan: Plan) -> None:
    """Print the plan."""
    _say(f"campaign {plan['campaign']}")
    for name, text in _rows(plan):
        _say(f"  {name:<10} {text}")
    for line in _exclusions(_mappings(plan["exclusions"])):
        _say(f"    {line}")
    for line in _news(_mappings(plan.get("new") or [])):
        _say(f"  new        {line}")
    for task in _mappings(plan.get("task_list") or []):
        joules = "" if task["joules"] is None else f"  {task['joules']:.0f} J"
        key, seconds = str(task["key"])[:15], f"{task['seconds']:.1f} s"
        _say(f"  {key}  {task['engine']}  {task['workload']}  {seconds}{joules}")


def _rows(plan: Plan) -> Iterable[tuple[str, str]]:
    yield "tasks", f"{plan['tasks']}, {count_of(cast('int', plan['engines']), 'engine')}"
    yield "measured", "not asked (--store)" if plan["done"] is None else str(plan["done"])
    yield "boards", _listed(plan["boards"])
    yield "here", _listed(plan["here"])
    yield "models", _listed(plan["models"])
    yield "backends", _listed(plan["backends"])
    yield "protocol", f"{plan['protocol']}, energy {plan['energy']}, {plan['reality']}"
    if plan["estimated_hours"] is None:
        yield "time", str(plan["estimate"])
    else:
        yield "time", f"{_hours(plan)} ({plan['estimate']}; {SOURCES[str(plan['source'])]})"
        yield "energy", _energy(plan)
        yield from _boards(plan)
        yield from _isolation(plan)
        yield from _unknown(plan, "unknown", "without_energy")
        yield from _unknown(plan, "at most", "at_most")
    yield "weights", f"{_listed(plan['weights'])}, {plan['weights_gb']:.4g} GB on disk"
    if plan["unresolved"]:
        yield "unresolved", f"{_listed(plan['unresolved'])}: the commit is looked up by run"
    for line in _listed_all(plan["unchecked"]):
        yield "options", line
    yield "excluded", _listed(plan["excluded"]) or "nothing"


def _hours(plan: Plan) -> str:
    return (
        f"{plan['estimated_hours']:.2f} h, {plan['gpu_hours']:.4g} GPU-hours, "
        f"{count_of(cast('int', plan['engine_loads']), 'engine load')}"
    )


def _energy(plan: Plan) -> str:
    """Return energy, price and carbon in a line, and what is not known of them."""
    if plan["kwh"] is None:
        words = ["not known"]
    else:
        words = [f"{plan['kwh']:.4g} kWh"]
        if plan["kwh_ceiling"]:
            words[0] += f" ({plan['kwh_ceiling']:.4g} at the power limit or TDP all the time)"
        if plan["energy_source"] != plan["source"]:
            words.append(f"joules {SOURCES[str(plan['energy_source'])]}")
        if plan["tasks_without_energy"]:
            words.append(f"without {plan['tasks_without_energy']} tasks that have no estimate")
    if plan["price"] is not None:
        words.append(f"price {plan['price']:.4g}")
        if plan["boards_without_price"]:
            words.append(f"no price for {_listed(plan['boards_without_price'])}")
    if plan["carbon_g"] is not None:
        words.append(f"{plan['carbon_g']:.4g} g CO2")
    return "; ".join(words)


def _boards(plan: Plan) -> Iterable[tuple[str, str]]:
    boards = plan["by_board"]
    assert isinstance(boards, Mapping)  # noqa: S101 - made by `describe`
    for slug, board in boards.items():
        kwh = "" if board["kwh"] is None else f", {board['kwh']:.4g} kWh"
        yield "", (f"{slug}: {board['gpu_hours']:.4g} GPU-hours, {board['wall_hours']:.4g} h on "
                   f"{board['boards']:.0f}{kwh}")  # fmt: skip


def _isolation(plan: Plan) -> Iterable[tuple[str, str]]:
    """Yield what boards idle, or would, beside sessions that have a node of their own."""
    isolation = plan["isolation"]
    assert isinstance(isolation, Mapping)  # noqa: S101 - made by `describe`
    if not isolation["idled_gpu_hours"]:
        return
    kwh = isolation["idled_kwh"]
    energy = "" if kwh is None else f" ({kwh:.3g} kWh)"
    cost = f"{isolation['idled_gpu_hours']:.4g} GPU-hours{energy}"
    sizes = sorted({str(boards) for slug, boards in isolation["boards_per_node"].items()
                    if not slug.startswith("cpu:")})  # fmt: skip
    nodes = f"at {' or '.join(sizes)} boards a node"
    if isolation["isolation"] == "node":
        alone = f"beside sessions with a node of their own, boards idle {cost}, {nodes}"
        yield "isolation", f"{alone}; cluster.isolation=gpu fills them, without CPU energy"
    else:
        yield "isolation", f"a node of its own for each session would idle {cost}, {nodes}"


def _unknown(plan: Plan, name: str, key: str) -> Iterable[tuple[str, str]]:
    """Yield what is not known of tasks without energy, or with no more than a bound of it."""
    found = plan[key]
    assert isinstance(found, Mapping)  # noqa: S101 - made by `describe`
    yield from ((name, f"{count_of(count, 'task')}: {why}") for why, count in found.items())


def _exclusions(found: Sequence[Mapping[str, object]]) -> Iterable[str]:
    """Yield a line per reason: how many points, of how many engines, and the first of them."""
    reasons: dict[object, list[Mapping[str, object]]] = {}
    for exclusion in found:
        reasons.setdefault(exclusion["reason"], []).append(exclusion)
    for reason, held in reasons.items():
        first = held[0]
        where = first["workload"] or "every workload"
        engines = count_of(len({exclusion["engine"] for exclusion in held}), "engine")
        more = f"; {len(held) - 1} more like it of {engines}" if len(held) > 1 else ""
        yield f"{reason}: {first['engine']}, {where}: {first['detail']}{more}"


def _news(points: Sequence[Mapping[str, object]]) -> Iterable[str]:
    """Yield why points look new: each that is like a measured one, and how many are like none."""
    alike = [point for point in points if point["nearest"] is not None]
    yield from (f"{p['engine']}, {p['workload']}: {p['because']}" for p in alike)
    if len(points) > len(alike):
        yield f"{count_of(len(points) - len(alike), 'point')} like none that is measured"


def _listed(value: object) -> str:
    if isinstance(value, Mapping):
        value = [f"{key} ({count})" for key, count in value.items()]
    names = [str(name) for name in value] if isinstance(value, list) else [str(value)]
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _listed_all(value: object) -> list[str]:
    return [str(line) for line in value] if isinstance(value, list) else []


def _mappings(value: object) -> Sequence[Mapping[str, object]]:
    entries = value if isinstance(value, list) else []
    return [entry for entry in entries if isinstance(entry, Mapping)]


def _say(text: str) -> None:
    print(text, file=sys.stderr)
