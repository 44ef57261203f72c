"""Broken lease statements: each passes the unhurried test and fails exactly its own interleavings.

A mutant that fails nothing would mean a rule that no test proves; one that fails more than what
is named here, that the scenarios do not tell the rules apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from db import leases
from db.embedded import EmbeddedPostgres
from db.store import Store
from tests.store.scenarios import FIRST, SCENARIOS, SECOND
from tests.store.world import World, ground

pytestmark = pytest.mark.store


#: What a test of one session after the other would have found.
UNHURRIED = frozenset({"nothing_is_hurried", "nothing_is_hurried_when_sessions_end"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A statement with one piece of text replaced, and the scenarios that must notice."""

    statement: str
    piece: str
    instead: str
    fails: frozenset[str]

    def sql(self) -> Mapping[str, str]:
        """The statements with this one broken."""
        sound = leases.SQL[self.statement]
        assert sound.count(self.piece) == 1, f"{self.statement} has no single {self.piece!r}"
        return {**leases.SQL, self.statement: sound.replace(self.piece, self.instead)}


MUTANTS = {
    "no_fence": Mutant(
        statement="finish",
        piece="t.lease_id = a.lease_id and ",
        instead="",
        fails=frozenset(
            {
                "zombie_finishes_after_reclaim",
                "finish_waits_for_a_reclaim",
                "finish_and_claim_waits_for_a_reclaim",
                "finish_waits_for_a_fault",
            }
        ),
    ),
    "fence_in_another_table": Mutant(
        statement="finish",
        piece="t.lease_id = a.lease_id and ",
        instead="""not exists (select from attempts n
                             where n.task_id = a.task_id and n.number > a.number) and """,
        fails=frozenset(
            {
                "finish_waits_for_a_reclaim",
                "finish_and_claim_waits_for_a_reclaim",
                "finish_waits_for_a_fault",
            }
        ),
    ),
    "finish_by_state_only": Mutant(
        statement="finish",
        piece="t.lease_id = a.lease_id and t.state <> 'done'",
        instead="t.state = 'leased'",
        fails=frozenset(
            {
                "zombie_finishes_after_reclaim",
                "finish_waits_for_a_reclaim",
                "finish_and_claim_waits_for_a_reclaim",
                "late_finish_of_an_unclaimed_task",
                "late_finish_claims_what_comes_next",
                "late_finish_of_a_quarantined_task",
                "finish_waits_for_reap",
                "finish_waits_for_release",
                "zombie_finishes_after_its_burial",
                "late_finish_after_its_release",
            }
        ),
    ),
    "fault_keeps_the_fence": Mutant(
        statement="give_back",
        piece="case when %(outcome)s::text = 'released' then t.lease_id end",
        instead="t.lease_id",
        fails=frozenset({"finish_waits_for_a_fault"}),
    ),
    "release_is_final": Mutant(
        statement="finish",
        piece="""in ('lost', 'released'))
       and t.id""",
        instead="""= 'lost')
       and t.id""",
        fails=frozenset({"late_finish_after_its_release"}),
    ),
    "no_skip_locked": Mutant(
        statement="claim",
        piece=" skip locked",
        instead="",
        fails=frozenset({"two_claim_one_task", "two_claim_two_tasks"}),
    ),
    "claim_locks_keys": Mutant(
        statement="claim",
        piece="for no key update",
        instead="for update",
        fails=frozenset({"claim_while_another_campaign_asks_for_the_task"}),
    ),
    "claim_forgets_its_lease": Mutant(
        statement="claim",
        piece="where t.lease_id = %(lease_id)s and t.state = 'leased'",
        instead="where false",
        fails=frozenset({"claim_whose_reply_is_lost", "finish_and_claim_whose_reply_is_lost"}),
    ),
    "read_then_update_reap": Mutant(
        statement="reap",
        piece="""     where t.state = 'leased'
       and t.lease_expires_at < now()
       and pg_postmaster_start_time() < now() - make_interval(secs => %(lease_s)s)
""",
        instead="""      from (select id from tasks
             where state = 'leased' and lease_expires_at < now()
               and pg_postmaster_start_time() < now() - make_interval(secs => %(lease_s)s)
            offset 0) old
     where t.id = old.id
""",
        fails=frozenset(
            {"reap_waits_for_beat", "reap_waits_for_finish", "two_reap_the_same_lease"}
        ),
    ),
    "reap_after_an_outage": Mutant(
        statement="reap",
        piece="and pg_postmaster_start_time() < now() - make_interval(secs => %(lease_s)s)",
        instead="and %(lease_s)s::float is not null",
        fails=frozenset({"reap_in_the_first_lease_of_a_server"}),
    ),
    "beat_whatever_the_state": Mutant(
        statement="beat",
        piece=" and state = 'leased'",
        instead="",
        fails=frozenset({"beat_after_reap", "beat_waits_for_reap"}),
    ),
    "burial_whatever_the_state": Mutant(
        statement="bury",
        piece=" and t.state = 'leased'",
        instead="",
        fails=frozenset({"burial_waits_for_finish"}),
    ),
    "release_whatever_the_state": Mutant(
        statement="release",
        piece=" and t.state = 'leased'",
        instead="",
        fails=frozenset({"release_waits_for_finish"}),
    ),
    "give_back_whatever_the_state": Mutant(
        statement="give_back",
        piece=" and t.state <> 'done'",
        instead="",
        fails=frozenset({"fault_waits_for_finish"}),
    ),
    "give_back_only_in_time": Mutant(
        statement="give_back",
        piece="t.state <> 'done'",
        instead="t.state = 'leased'",
        fails=frozenset(
            {
                "late_fault_of_an_unclaimed_task",
                "late_void_of_a_quarantined_task",
                "fault_waits_for_reap",
                "late_fault_of_an_excluded_task",
            }
        ),
    ),
    "late_fault_without_the_fence": Mutant(
        statement="give_back",
        piece="where t.lease_id = %(lease_id)s and",
        instead="where t.id = (select task_id from attempts where lease_id = %(lease_id)s) and",
        fails=frozenset({"late_fault_after_reclaim"}),
    ),
    "late_fault_is_a_loss_as_well": Mutant(
        statement="give_back",
        piece="greatest(t.losses - (a.outcome is not distinct from 'lost')::int, 0)",
        instead="t.losses",
        fails=frozenset(
            {
                "late_fault_of_an_unclaimed_task",
                "late_void_of_a_quarantined_task",
                "fault_waits_for_reap",
                "late_fault_of_an_excluded_task",
            }
        ),
    ),
    "late_fault_does_not_wait": Mutant(
        statement="hold",
        piece="where lease_id = %(lease_id)s",
        instead="where lease_id = %(lease_id)s and false",
        fails=frozenset({"fault_waits_for_reap"}),
    ),
    "late_fault_brings_back_what_was_taken_out": Mutant(
        statement="give_back",
        piece="t.reason <> 'lost' is true",
        instead="false",
        fails=frozenset({"late_fault_of_an_excluded_task"}),
    ),
}


@pytest.fixture(scope="module")
def store(embedded_store: EmbeddedPostgres) -> Iterator[Store]:
    with ground(embedded_store) as found:
        yield found


class Noting(dict[str, str]):
    """Statements that note which of them were sent."""

    def __init__(self, sound: Mapping[str, str]) -> None:
        super().__init__(sound)
        self.sent: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.sent.add(name)
        return super().__getitem__(name)


@pytest.fixture(scope="module")
def sent(store: Store) -> dict[str, set[str]]:
    """The statements each scenario sends: a mutant of another one cannot change it."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for scenario in SCENARIOS:
            noting = Noting(leases.SQL)
            patch.setattr(leases, "SQL", noting)
            assert not _fails(scenario, store)
            found[scenario] = noting.sent
            patch.undo()
    return found


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_fails_exactly_its_interleavings(
    name: str, store: Store, sent: Mapping[str, set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = MUTANTS[name]
    monkeypatch.setattr(leases, "SQL", mutant.sql())
    concerned = [scenario for scenario in SCENARIOS if mutant.statement in sent[scenario]]
    noticed = {scenario for scenario in concerned if _fails(scenario, store)}
    assert UNHURRIED & set(concerned)
    assert noticed == mutant.fails


def test_every_interleaving_is_failed_by_some_mutant() -> None:
    failed = {scenario for mutant in MUTANTS.values() for scenario in mutant.fails}
    assert failed | NO_STATEMENT_ALONE == set(SCENARIOS)


#: They hold because of constraints and of what the callers ask, not because of one piece of text.
NO_STATEMENT_ALONE = UNHURRIED | {
    "the_same_finish_twice_at_once",
    "finish_whose_reply_is_lost",
    "finish_and_claim_after_the_next_was_taken_back",  # a lease is unique
    "give_back_whose_reply_is_lost",
    "old_finish_after_a_void",  # void clears the fence, and finish refuses a closed attempt
}


def _fails(scenario: str, store: Store) -> bool:
    """Whether a scenario notices; a refusal by a constraint is noticed as well."""
    world = World(store, [FIRST, SECOND])
    try:
        SCENARIOS[scenario](world)
    except Exception:  # noqa: BLE001 - a mutant may break in any way
        return True
    return False
