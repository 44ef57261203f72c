"""One trial by chaos: a campaign left in peace, the same one attacked, and the two compared."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.place import Place, opened
from tests.chaos.adversary import ANYWHERE, PATIENCE_S, Adversary, Attack, Goal
from tests.chaos.host import Host
from tests.chaos.server import Server
from tests.chaos.verdict import RESULTS, TALLY, broken
from workers.killpoints import POINTS

#: Simulated boards that take a little real time, and leases as short as they can be held.
WORDS = (
    "cluster=simulated",
    "engine=simulated",
    "protocol=quick",
    "campaign=chaos",
    "board=[rtx-a6000,a100-sxm-80gb,h100-sxm-80gb]",
    "store.beat_s=0.5",
    "store.max_lost=100000",  # that a task is lost again and again is what happens here
    "store.retry_delay_s=0",
    "store.task_deadline_s=600",
)
LEASE_S = 2.0
PROGRESS_S = 15.0
#: What a Ray leaves behind whose raylet and GCS were both killed ends by itself: its agents look
#: for the raylet for some seconds, and then try for a minute to tell the GCS that it died.
ORPHANS_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a trial is: the words of its grid, its tasks, its goal, its longest duration."""

    grid: Sequence[str]
    tasks: int
    goal: Goal
    limit_s: float


def seed_of_the_day() -> int:
    """Return CHAOS_SEED, or one drawn now."""
    return int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(4)))


def trial(folder: Path, size: Size, seed: int, say: Callable[[str], None]) -> list[str]:
    """Attack a campaign until it is done all the same; returns what it broke."""
    say(f"chaos: CHAOS_SEED={seed} replays the adversary's choices")
    words = (*WORDS, *size.grid, f"store.lease_s={LEASE_S:g}")
    began_s = time.monotonic()
    undisturbed = in_peace(folder, words)
    say(f"chaos: in peace {len(undisturbed)} results in {time.monotonic() - began_s:.0f} s")
    assert len(undisturbed) == size.tasks
    with ExitStack() as stack:
        server = Server(folder / "store")
        stack.callback(server.close)
        command = ("run", "--json", *words, "store=postgres", f'store.url="{server.url}"')
        hosts = [Host(folder / name, command) for name in ("east", "west")]
        for host in hosts:
            stack.callback(host.end)
        adversary = Adversary(seed, size.goal, hosts, server)
        began_s = time.monotonic()
        try:
            attack(adversary, size, say)
            settle(adversary, hosts)
            found = [*adversary.violations, *verdict(server, hosts, undisturbed)]
            if not adversary.is_satisfied:
                found.append("done before every point was hit and every attack made: see the table")
            return found
        finally:
            say(report(adversary, server, time.monotonic() - began_s))


def in_peace(folder: Path, words: Sequence[str]) -> Sequence[Any]:
    """Run the campaign from another home into another store; returns its results."""
    home = folder / "peace"
    more = [f"cluster.boards.{slug}=3" for slug in ("rtx-a6000", "a100-sxm-80gb", "h100-sxm-80gb")]
    host = Host(home, ("run", "--json", *words, *more))
    host.start("")
    try:
        assert host.process.wait(timeout=900) == 0, host.last_words
    finally:
        host.end()
    with opened(Place(folder=str(home / "store"))) as store, store.store.begin() as connection:
        return connection.exec_driver_sql(RESULTS).fetchall()


def attack(adversary: Adversary, size: Size, say: Callable[[str], None]) -> None:
    """Attack until every task has its result."""
    began_s, said_s = time.monotonic(), time.monotonic()
    while not 0 < adversary.tasks == adversary.done:
        adversary.step()
        now_s = time.monotonic()
        assert now_s - began_s < size.limit_s, f"not done within {size.limit_s:g} s"
        if now_s - said_s > PROGRESS_S:
            said_s = now_s
            hits = ", ".join(f"{point} {adversary.hits(point)}" for point in POINTS)
            say(f"{now_s - began_s:5.0f} s: {adversary.done}/{adversary.tasks} done; hits: {hits}")
        time.sleep(0.15)
    adversary.calm()


def settle(adversary: Adversary, hosts: Sequence[Host]) -> None:
    """Let every driver end by itself, then run each once more: the resume finds nothing to do."""
    for last in (False, True):
        for host in hosts:
            if last or host.ended() not in (None, 0):
                host.start("")
        for host in hosts:
            try:
                code = host.process.wait(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                adversary.violations.append(f"the driver of {host.name} does not end")
                continue
            if code == 0 or not last:
                continue
            adversary.violations.append(f"{host.name} ended with {code}: {host.last_words}")


def verdict(server: Server, hosts: Sequence[Host], undisturbed: Sequence[Any]) -> list[str]:
    """Return what the end state breaks, in the store and on the hosts."""
    found = list(broken(server.ask, undisturbed))
    ends_s = time.monotonic() + ORPHANS_S
    while any(host.orphans() for host in hosts) and time.monotonic() < ends_s:
        time.sleep(0.1)
    for host in hosts:
        found += [f"an orphan of {host.name}: {text}" for text in host.orphans()]
        kept = list((host.home / "spool").glob("*"))
        found += [f"left in the spool of {host.name}: {path.name}" for path in kept]
    return found


def report(adversary: Adversary, server: Server, seconds: float) -> str:
    """Return the counted table, how attempts ended and how drivers did."""
    places = (*POINTS, ANYWHERE)
    lines = ["", f"{'':14}" + "".join(f"{place:>11}" for place in places)]
    for how in Attack:
        cells = "".join(f"{adversary.counts[place, how]:11d}" for place in places)
        lines.append(f"{how:14}{cells}")
    lines.append(f"{'together':14}" + "".join(f"{adversary.hits(place):11d}" for place in places))
    outcomes: Counter[str] = Counter()
    for row in server.ask(TALLY):
        outcomes[f"{row.outcome} {row.kind}".strip()] += row.attempts
    lines.append("attempts: " + ", ".join(f"{n} {word}" for word, n in outcomes.items()))
    saved = ", ".join(f"{n} {word}" for word, n in sorted(adversary.saved.items()))
    lines.append(f"in hand in {adversary.outages} outages of three leases: {saved or 'nothing'}")
    for (code, words), count in adversary.exits.most_common():
        lines.append(f"drivers: {count} ended with {code} ({words})")
    lines.append(f"{seconds:.0f} s under attack")
    return "\n".join(lines)


def aloud(text: str) -> None:
    """Print at once, also where stdout is a pipe."""
    print(text, file=sys.stdout, flush=True)
