"""Who uses the GPUs of a group, and whether others than the session's own are among them. Pure.

It owns that judgement. It never takes a list that was refused for an empty one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from workers.meters.child import Message, integer, items


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """The pids that use a group's GPUs, as far as the driver lists them; `known` if it does."""

    pids: frozenset[int] = frozenset()
    known: bool = False

    @classmethod
    def parse(cls, answer: Message) -> Self:
        """Read the sampler's answer."""
        pids = frozenset(integer(pid) for pid in items(answer["pids"]))
        return cls(pids=pids, known=bool(answer["known"]))

    def beside(self, own: Users) -> tuple[int, ...] | None:
        """Return the pids that are not among the session's `own`; None where it cannot be told."""
        foreign = tuple(sorted(self.pids - own.pids))
        return foreign if own.known and (self.known or foreign) else None
