"""Which rows an analysis takes: measured or simulated ones, never both unasked.

Owns that rule, and the lines that say what was left out, and what is in doubt. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from campaign.tabular import count_of
from db.claims import IN_DOUBT
from db.errors import ConfigError
from db.records import Reality

CHOICES = tuple(map(str, Reality))


def kind_of(reality: str | None, origin: str | None = None) -> str:
    """Return whether a row is real, simulated or external.

    An imported row is external, unless it was simulated where it comes from (`origin`).
    """
    if Reality.SIMULATED in (reality, origin):
        return str(Reality.SIMULATED)
    return reality or str(Reality.EXTERNAL)


def chosen(
    kinds: Sequence[str], says: Sequence[bool], asked: Sequence[str] | None
) -> tuple[list[bool], str | None]:
    """Return which rows to take, by their kinds, and in one line which were left out unasked.

    `says` tells which rows have what the analysis is about: beside a measured one that does,
    simulated rows stay out. Raises ConfigError where no row is of a kind that was `asked` for.
    """
    if asked:
        taken = [kind in asked for kind in kinds]
        if kinds and not any(taken):
            raise ConfigError(f"--reality {' --reality '.join(asked)}: no such row; there are "
                              + _counted(kinds))  # fmt: skip
        return taken, None
    simulated = [kind == Reality.SIMULATED for kind in kinds]
    if not any(row and not virtual for row, virtual in zip(says, simulated, strict=True)):
        return [True] * len(kinds), None
    left = sum(simulated)
    line = f"{count_of(left, 'simulated row')} left out: --reality simulated takes them"
    return [not virtual for virtual in simulated], line if left else None


def in_doubt(kinds: Sequence[str], marks: Sequence[Collection[str]]) -> str | None:
    """Return in one line how many rows that were measured are marked as doubtful; None for none."""
    found = [IN_DOUBT.intersection(some) for kind, some in zip(kinds, marks, strict=True)
             if kind != Reality.SIMULATED]  # fmt: skip
    marked = [some for some in found if some]
    if not marked:
        return None
    words = ", ".join(sorted(frozenset().union(*marked)))
    return (f"{count_of(len(marked), 'row')} marked {words}, as of joules that may be wrong: "
            "counted here, unlike in claims and findings")  # fmt: skip


def _counted(kinds: Sequence[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).items())
