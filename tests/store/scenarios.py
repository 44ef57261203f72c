"""The interleavings of the lease statements, each a function that fails if the rule is broken.

The tests run them on the real statements, the mutants on broken ones. Session A holds a lease, B
is whoever comes after it, R takes back.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from db.campaigns import create_campaign, enqueue
from db.errors import LeaseLost
from db.leases import Claim, LeasePolicy, Leases
from db.mending import Selection, void
from db.records import Outcome, TaskState
from tests.store.interleaving import losing, stage
from tests.store.world import World, measurement, reading, repeat, task

NOW = LeasePolicy(lease_s=0.0)
FIRST, SECOND = task(1), task(2)


def same(found: object, wanted: object) -> None:
    assert found == wanted, f"{found!r} is not {wanted!r}"


class Holder:
    """Session A, which holds the first task; `expired` says whether its lease has run out."""

    def __init__(self, world: World, *, expired: bool = False) -> None:
        self.session = world.session()
        self.claim: Claim = world.claim(self.session)
        self.task_id, self.lease = self.claim.task_id, self.claim.lease_id
        if expired:
            world.expire(self.lease)

    def finish(self, leases: Leases, energy_j: float = 10.0) -> Outcome:
        done = measurement(repeat(0, reading(energy_j)))
        return leases.finish(self.lease, self.session, done)

    def finish_and_claim(
        self, w: World, leases: Leases, energy_j: float = 10.0
    ) -> tuple[Outcome, Claim | None]:
        done = measurement(repeat(0, reading(energy_j)))
        return leases.finish_and_claim(self.lease, done, w.wanted(self.session))

    def fault(
        self, leases: Leases, kind: str = "deadline", *, permanent: bool = False
    ) -> TaskState | None:
        return leases.give_back(
            self.lease, self.session, Outcome.FAULTED, kind=kind, permanent=permanent
        )


def nothing_is_hurried(w: World) -> None:
    """One session after the other: every statement does its work."""
    a = Holder(w)
    w.leases.beat(a.lease)
    same(a.finish(w.leases), Outcome.OK)
    b = Holder(w)
    same(b.fault(w.leases), TaskState.PENDING)
    b = Holder(w, expired=True)
    same(w.reap(), 1)
    b = Holder(w)
    same(b.finish(w.leases), Outcome.OK)
    same(w.outcomes(b.task_id), ["faulted", "lost", "ok"])
    assert w.nothing_to_claim()
    same(len(w.counted()), 2)


def nothing_is_hurried_when_sessions_end(w: World) -> None:
    """One is stopped, one dies, one finishes: each after the other."""
    a = Holder(w)
    same(w.leases.release([a.session]), 1)
    a = Holder(w)
    same(w.leases.bury([a.session]), 1)
    a = Holder(w)
    same(a.finish(w.leases), Outcome.OK)
    same(w.outcomes(a.task_id), ["released", "lost", "ok"])
    same(w.task(a.task_id).losses, 1)


def zombie_finishes_after_reclaim(w: World) -> None:
    a = Holder(w, expired=True)
    same(w.reap(), 1)
    b = Holder(w)
    same(b.task_id, a.task_id)
    same(a.finish(w.leases, 666.0), Outcome.SUPERSEDED)
    same(b.finish(w.leases, 10.0), Outcome.OK)
    same(w.outcomes(a.task_id), ["superseded", "ok"])
    same(w.counted(), [(a.claim.key, 10.0)])
    same(w.one("select count(*) from windows"), 2)  # kept, not counted


def late_finish_of_an_unclaimed_task(w: World) -> None:
    a = Holder(w, expired=True)
    same(w.reap(), 1)
    same(a.finish(w.leases), Outcome.OK)
    same((w.state(a.task_id), w.outcomes(a.task_id)), ("done", ["ok"]))
    same(w.counted(), [(a.claim.key, 10.0)])


def late_finish_of_a_quarantined_task(w: World) -> None:
    a = Holder(w, expired=True)
    same(w.reap(max_lost=1), 1)
    same((w.state(a.task_id), w.task(a.task_id).reason), ("quarantined", "lost"))
    same(a.finish(w.leases), Outcome.OK)
    same((w.state(a.task_id), w.task(a.task_id).reason), ("done", None))


def finish_waits_for_reap(w: World) -> None:
    a = Holder(w, expired=True)
    with stage(w) as s:
        r, late = s.hand(), s.hand()
        same(s.leases(r, NOW).reap(), 1)
        finishing = late.start(lambda: a.finish(s.leases(late)))
        s.waits(late)
        r.commit()
        same(finishing.result(), Outcome.OK)
        late.commit()
    same((w.state(a.task_id), w.outcomes(a.task_id)), ("done", ["ok"]))


def reap_waits_for_finish(w: World) -> None:
    a = Holder(w, expired=True)
    with stage(w) as s:
        last, r = s.hand(), s.hand()
        same(a.finish(s.leases(last)), Outcome.OK)
        reaping = r.start(s.leases(r, NOW).reap)
        s.waits(r)
        last.commit()
        same(reaping.result(), 0)
        r.commit()
    same((w.state(a.task_id), w.task(a.task_id).losses), ("done", 0))


def beat_after_reap(w: World) -> None:
    a = Holder(w, expired=True)
    same(w.reap(), 1)
    assert beat_is_refused(w.leases, a.lease)


def beat_is_refused(leases: Leases, lease: uuid.UUID) -> bool:
    try:
        leases.beat(lease)
    except LeaseLost:
        return True
    return False


def beat_waits_for_reap(w: World) -> None:
    a = Holder(w, expired=True)
    with stage(w) as s:
        r, heart = s.hand(), s.hand()
        same(s.leases(r, NOW).reap(), 1)
        beating = heart.start(lambda: beat_is_refused(s.leases(heart), a.lease))
        s.waits(heart)
        r.commit()
        assert beating.result()
    same(w.state(a.task_id), "pending")


def reap_waits_for_beat(w: World) -> None:
    a = Holder(w, expired=True)
    with stage(w) as s:
        heart, r = s.hand(), s.hand()
        s.leases(heart).beat(a.lease)
        reaping = r.start(s.leases(r, NOW).reap)
        s.waits(r)
        heart.commit()
        same(reaping.result(), 0)
        r.commit()
    same((w.state(a.task_id), w.task(a.task_id).losses), ("leased", 0))
    w.leases.beat(a.lease)


def two_reap_the_same_lease(w: World) -> None:
    a = Holder(w, expired=True)
    with stage(w) as s:
        one, two = s.hand(), s.hand()
        same(s.leases(one, NOW).reap(), 1)
        reaping = two.start(s.leases(two, NOW).reap)
        s.waits(two)
        one.commit()
        same(reaping.result(), 0)
        two.commit()
    same((w.outcomes(a.task_id), w.task(a.task_id).losses), (["lost"], 1))


def two_claim_one_task(w: World) -> None:
    Holder(w)  # the first task is taken; the second is the one
    x, y = w.session(), w.session()
    with stage(w) as s:
        one, two = s.hand(), s.hand()
        first = s.leases(one).claim(w.campaign_id, w.engine_id, x)
        assert first is not None
        claiming = two.start(lambda: s.leases(two).claim(w.campaign_id, w.engine_id, y))
        same(s.at_once(two, claiming), None)
        one.commit()
    same(w.outcomes(first.task_id), [None])


def two_claim_two_tasks(w: World) -> None:
    x, y = w.session(), w.session()
    with stage(w) as s:
        one, two = s.hand(), s.hand()
        first = s.leases(one).claim(w.campaign_id, w.engine_id, x)
        claiming = two.start(lambda: s.leases(two).claim(w.campaign_id, w.engine_id, y))
        second = s.at_once(two, claiming)
        assert first is not None
        assert second is not None
        same((first.key, second.key), (FIRST.key, SECOND.key))
        one.commit()
        two.commit()


def claim_while_another_campaign_asks_for_the_task(w: World) -> None:
    x = w.session()
    with stage(w) as s:
        other, one = s.hand(), s.hand()
        other.retrying(lambda c: enqueue(c, create_campaign(c, "other", "me", ""), [FIRST, SECOND]))
        claiming = one.start(lambda: s.leases(one).claim(w.campaign_id, w.engine_id, x))
        found = s.at_once(one, claiming)
        assert found is not None
        same(found.key, FIRST.key)


def finish_waits_for_a_reclaim(w: World) -> None:
    a = Holder(w, expired=True)
    same(w.reap(), 1)
    x = w.session()
    with stage(w) as s:
        b, late = s.hand(), s.hand()
        again = s.leases(b).claim(w.campaign_id, w.engine_id, x)
        assert again is not None
        same(again.task_id, a.task_id)
        finishing = late.start(lambda: a.finish(s.leases(late), 666.0))
        s.waits(late)
        b.commit()
        same(finishing.result(), Outcome.SUPERSEDED)
        late.commit()
    same((w.state(a.task_id), w.outcomes(a.task_id)), ("leased", ["superseded", None]))
    same(w.leases.finish(again.lease_id, x, measurement()), Outcome.OK)
    same(w.counted(), [(a.claim.key, 10.0)])


def finish_and_claim_waits_for_a_reclaim(w: World) -> None:
    """Superseded, and on with the next task: nobody waits the other way round."""
    a = Holder(w, expired=True)
    same(w.reap(), 1)
    x = w.session()
    with stage(w) as s:
        b, late = s.hand(), s.hand()
        again = s.leases(b).claim(w.campaign_id, w.engine_id, x)
        assert again is not None
        same(again.task_id, a.task_id)
        finishing = late.start(lambda: a.finish_and_claim(w, s.leases(late), 666.0))
        s.waits(late)
        b.commit()
        decided, claim = finishing.result()
        late.commit()
    assert claim is not None
    same((decided, claim.key), (Outcome.SUPERSEDED, SECOND.key))
    same(w.leases.finish(again.lease_id, x, measurement()), Outcome.OK)
    same(w.leases.finish(claim.lease_id, a.session, measurement()), Outcome.OK)
    same(len(w.counted()), 2)


def late_finish_claims_what_comes_next(w: World) -> None:
    """Not the task itself, which was pending when both were sent."""
    a = Holder(w, expired=True)
    same(w.reap(), 1)
    decided, claim = a.finish_and_claim(w, w.leases)
    assert claim is not None
    same((decided, claim.key), (Outcome.OK, SECOND.key))
    same((w.state(a.task_id), w.state(claim.task_id)), ("done", "leased"))


def the_same_finish_twice_at_once(w: World) -> None:
    a = Holder(w)
    with stage(w) as s:
        one, two = s.hand(), s.hand()
        same(a.finish(s.leases(one)), Outcome.OK)
        finishing = two.start(lambda: a.finish(s.leases(two)))
        s.waits(two)
        one.commit()
        same(finishing.result(), Outcome.OK)
        two.commit()
    same(w.counted(), [(a.claim.key, 10.0)])
    same(w.one("select count(*) from windows"), 1)


def finish_waits_for_release(w: World) -> None:
    a = Holder(w)
    with stage(w) as s:
        r, late = s.hand(), s.hand()
        same(s.leases(r).release([a.session]), 1)
        finishing = late.start(lambda: a.finish(s.leases(late)))
        s.waits(late)
        r.commit()
        same(finishing.result(), Outcome.OK)
        late.commit()
    same((w.state(a.task_id), w.outcomes(a.task_id)), ("done", ["ok"]))
    same(w.counted(), [(a.claim.key, 10.0)])


def release_waits_for_finish(w: World) -> None:
    a = Holder(w)
    with stage(w) as s:
        last, r = s.hand(), s.hand()
        same(a.finish(s.leases(last)), Outcome.OK)
        releasing = r.start(lambda: s.leases(r).release([a.session]))
        s.waits(r)
        last.commit()
        same(releasing.result(), 0)
        r.commit()
    same((w.state(a.task_id), w.outcomes(a.task_id)), ("done", ["ok"]))


def finish_waits_for_a_fault(w: World) -> None:
    """The heart closes an attempt at its deadline while the measurement is being written."""
    a = Holder(w)
    with stage(w) as s:
        heart, late = s.hand(), s.hand()
        same(a.fault(s.leases(heart)), TaskState.PENDING)
        finishing = late.start(lambda: a.finish(s.leases(late)))
        s.waits(late)
        heart.commit()
        same(finishing.result(), Outcome.FAULTED)
        late.commit()
    same((w.state(a.task_id), w.outcomes(a.task_id)), ("pending", ["faulted"]))
    same(w.counted(), [])


def fault_waits_for_finish(w: World) -> None:
    a = Holder(w)
    with stage(w) as s:
        last, heart = s.hand(), s.hand()
        same(a.finish(s.leases(last)), Outcome.OK)
        closing = heart.start(lambda: a.fault(s.leases(heart)))
        s.waits(heart)
        last.commit()
        same(closing.result(), None)
        heart.commit()
    same((w.state(a.task_id), w.outcomes(a.task_id)), ("done", ["ok"]))
    same(w.task(a.task_id).faults, 0)


def burial_waits_for_finish(w: World) -> None:
    a = Holder(w)
    with stage(w) as s:
        last, r = s.hand(), s.hand()
        same(a.finish(s.leases(last)), Outcome.OK)
        burying = r.start(lambda: s.leases(r).bury([a.session]))
        s.waits(r)
        last.commit()
        same(burying.result(), 0)
        r.commit()
    same((w.state(a.task_id), w.task(a.task_id).losses), ("done", 0))


def zombie_finishes_after_its_burial(w: World) -> None:
    """It was not dead. Nobody else had begun, so its measurement counts."""
    a = Holder(w)
    same(w.leases.bury([a.session]), 1)
    same(w.outcomes(a.task_id), ["lost"])
    same(a.finish(w.leases), Outcome.OK)
    same((w.state(a.task_id), w.counted()), ("done", [(a.claim.key, 10.0)]))


def late_finish_after_its_release(w: World) -> None:
    """Stopped on purpose, but the measurement was done: kept in the spool, it comes later."""
    a = Holder(w)
    same(w.leases.release([a.session]), 1)
    same((w.state(a.task_id), w.outcomes(a.task_id)), ("pending", ["released"]))
    same(a.finish(w.leases), Outcome.OK)
    same((w.state(a.task_id), w.counted()), ("done", [(a.claim.key, 10.0)]))


def late_fault_of_an_unclaimed_task(w: World) -> None:
    """It was not lost, it failed: the loss is taken back, the fault counts."""
    a = Holder(w, expired=True)
    same(w.reap(), 1)
    same(a.fault(w.leases), TaskState.PENDING)
    same(w.outcomes(a.task_id), ["faulted"])
    same((w.task(a.task_id).losses, w.task(a.task_id).faults), (0, 1))
    same(a.fault(w.leases), TaskState.PENDING)  # sent again: once
    same(w.task(a.task_id).faults, 1)
    same(a.finish(w.leases), Outcome.FAULTED)


def late_void_of_a_quarantined_task(w: World) -> None:
    """A voided measurement after the last loss that was allowed: tried again, windows kept."""
    a = Holder(w, expired=True)
    same(w.reap(max_lost=1), 1)
    void = Outcome.INVALID
    done = measurement()
    given = w.leases.give_back(a.lease, a.session, void, kind="gpu_lost", measurement=done)
    same(given, TaskState.PENDING)
    same((w.task(a.task_id).losses, w.task(a.task_id).invalids), (0, 1))
    same((w.task(a.task_id).reason, w.one("select count(*) from windows")), (None, 1))


def late_fault_of_an_excluded_task(w: World) -> None:
    """What was taken out for a reason of its own stays out."""
    a = Holder(w, expired=True)
    same(w.reap(), 1)
    w.sql("update tasks set state = 'excluded', reason = 'out_of_memory' where id = %(id)s",
          id=a.task_id)  # fmt: skip
    same(a.fault(w.leases), TaskState.EXCLUDED)
    task = w.task(a.task_id)
    same((task.reason, task.losses, task.faults), ("out_of_memory", 0, 1))


def late_fault_after_reclaim(w: World) -> None:
    """Somebody else has begun: what failed before is kept and counts nothing."""
    a = Holder(w, expired=True)
    same(w.reap(), 1)
    b = Holder(w)
    same(b.task_id, a.task_id)
    same(a.fault(w.leases), None)
    same(w.outcomes(a.task_id), ["superseded", None])
    same(w.one("select kind from attempts where number = 1"), "deadline")
    same((w.state(a.task_id), w.task(a.task_id).faults), ("leased", 0))
    same(a.fault(w.leases), None)
    same(b.finish(w.leases), Outcome.OK)


def fault_waits_for_reap(w: World) -> None:
    a = Holder(w, expired=True)
    with stage(w) as s:
        r, late = s.hand(), s.hand()
        same(s.leases(r, NOW).reap(), 1)
        closing = late.start(lambda: a.fault(s.leases(late)))
        s.waits(late)
        r.commit()
        same(closing.result(), TaskState.PENDING)
        late.commit()
    same(w.outcomes(a.task_id), ["faulted"])
    same((w.task(a.task_id).losses, w.task(a.task_id).faults), (0, 1))


def old_finish_after_a_void(w: World) -> None:
    a = Holder(w)
    same(a.finish(w.leases), Outcome.OK)
    same(len(void(w.store, Selection(keys=[a.claim.key]), "it was noisy")), 1)
    same(a.finish(w.leases), Outcome.OK)  # what was decided then; it is not accepted again
    same((w.state(a.task_id), w.counted()), ("pending", []))
    b = Holder(w)
    same(b.task_id, a.task_id)
    same(a.finish(w.leases), Outcome.OK)
    same(b.finish(w.leases, 20.0), Outcome.OK)
    same(w.counted(), [(a.claim.key, 20.0)])
    same(w.one("select count(*) from windows"), 2)


def reap_in_the_first_lease_of_a_server(w: World) -> None:
    """After an outage every lease has expired; those who live must have time to say so."""
    a = Holder(w, expired=True)
    up_s = w.one("select extract(epoch from now() - pg_postmaster_start_time())::float")
    same(w.under(LeasePolicy(lease_s=up_s + 3600.0)).reap(), 0)
    w.leases.beat(a.lease)
    w.expire(a.lease)
    same(w.under(LeasePolicy(lease_s=up_s / 2)).reap(), 1)


def claim_whose_reply_is_lost(w: World) -> None:
    x = w.session()
    with losing(w, "unheard", "unanswered") as store:
        found = Leases(store, LeasePolicy()).claim(w.campaign_id, w.engine_id, x)
    assert found is not None
    same(found.key, FIRST.key)
    same(w.outcomes(found.task_id), [None])
    same(w.one("select count(*) from attempts"), 1)


def finish_whose_reply_is_lost(w: World) -> None:
    a = Holder(w)
    with losing(w, "unheard", "unanswered") as store:
        same(a.finish(Leases(store, LeasePolicy())), Outcome.OK)
    same(w.counted(), [(a.claim.key, 10.0)])
    same(w.one("select count(*) from windows"), 1)


def finish_and_claim_whose_reply_is_lost(w: World) -> None:
    """Both were done, or neither: sent again, both are what they were."""
    a = Holder(w)
    with losing(w, "unheard", "unanswered") as store:
        decided, claim = a.finish_and_claim(w, Leases(store, LeasePolicy()))
    assert claim is not None
    same((decided, claim.key), (Outcome.OK, SECOND.key))
    same(a.finish_and_claim(w, w.leases), (Outcome.OK, claim))
    same((w.outcomes(a.task_id), w.outcomes(claim.task_id)), (["ok"], [None]))
    same((len(w.counted()), w.one("select count(*) from windows")), (1, 1))


def finish_and_claim_after_the_next_was_taken_back(w: World) -> None:
    """The store was away for longer than a lease: the next one is asked for anew."""
    a = Holder(w)
    _, claim = a.finish_and_claim(w, w.leases)
    assert claim is not None
    w.expire(claim.lease_id)
    same(w.reap(), 1)
    same(a.finish_and_claim(w, w.leases), (Outcome.OK, None))
    same((w.state(claim.task_id), w.outcomes(claim.task_id)), ("pending", ["lost"]))


def give_back_whose_reply_is_lost(w: World) -> None:
    a = Holder(w)
    with losing(w, "unheard", "unanswered") as store:
        same(a.fault(Leases(store, LeasePolicy(max_faults=2))), TaskState.PENDING)
    same(w.task(a.task_id).faults, 1)
    b = Holder(w)
    with losing(w, "unanswered") as store:
        same(b.fault(Leases(store, LeasePolicy(max_faults=2))), TaskState.QUARANTINED)
    same(w.task(a.task_id).faults, 2)


SCENARIOS: dict[str, Callable[[World], None]] = {
    found.__name__: found
    for found in (
        nothing_is_hurried,
        nothing_is_hurried_when_sessions_end,
        zombie_finishes_after_reclaim,
        late_finish_of_an_unclaimed_task,
        late_finish_of_a_quarantined_task,
        finish_waits_for_reap,
        reap_waits_for_finish,
        beat_after_reap,
        beat_waits_for_reap,
        reap_waits_for_beat,
        two_reap_the_same_lease,
        two_claim_one_task,
        two_claim_two_tasks,
        claim_while_another_campaign_asks_for_the_task,
        finish_waits_for_a_reclaim,
        finish_and_claim_waits_for_a_reclaim,
        late_finish_claims_what_comes_next,
        the_same_finish_twice_at_once,
        finish_waits_for_release,
        release_waits_for_finish,
        finish_waits_for_a_fault,
        fault_waits_for_finish,
        burial_waits_for_finish,
        zombie_finishes_after_its_burial,
        late_finish_after_its_release,
        late_fault_of_an_unclaimed_task,
        late_void_of_a_quarantined_task,
        late_fault_of_an_excluded_task,
        late_fault_after_reclaim,
        fault_waits_for_reap,
        old_finish_after_a_void,
        reap_in_the_first_lease_of_a_server,
        claim_whose_reply_is_lost,
        finish_whose_reply_is_lost,
        finish_and_claim_whose_reply_is_lost,
        finish_and_claim_after_the_next_was_taken_back,
        give_back_whose_reply_is_lost,
    )
}
