"""Where a campaign stands as it begins, in one line."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from campaign.tabular import count_of


class Left(Protocol):
    """Points that a grid leaves out: fresh from its expansion, or as the store has them."""

    @property
    def reason(self) -> str:
        """One word."""

    @property
    def detail(self) -> str:
        """The reason in figures."""

    @property
    def points(self) -> int:
        """How many points."""


def news(
    name: str, states: Mapping[str, int], left_out: Iterable[Left], lost: Collection[str] = ()
) -> str:
    """Return where a campaign stands; `lost` says why a hub gave no weights."""
    done = states.get("done", 0)
    left = states.get("pending", 0) + states.get("leased", 0)
    held = states.get("quarantined", 0)
    words = [f"{name}: {count_of(sum(states.values()), 'task')}"]
    words.append(f"{done} already measured" if done else "none measured yet")
    words.append(f"{left} left" if left else "nothing left to measure")
    if held:
        words.append(f"{held} quarantined")
    if lost:
        words.append(f"no weights of {count_of(len(lost), 'model')} ({min(lost)})")
    found = list(left_out)
    if found:
        points = count_of(sum(one.points for one in found), "point")
        words.append(f"{points} excluded ({'; '.join(_reasons(found))})")
    return ", ".join(words)


def _reasons(found: Iterable[Left]) -> list[str]:
    """Return why points are excluded: the detail where it is the same for all of a reason."""
    details: dict[str, set[str]] = {}
    for one in found:
        details.setdefault(one.reason, set()).add(one.detail)
    return [min(some) if len(some) == 1 else reason for reason, some in sorted(details.items())]
