-- What people may change: void a result, or give a failed task another chance. Every statement takes
-- the task's own row first, as claim and finish do, and leaves a leased task alone. A statement that
-- had to wait for the row looks at its state again before it changes anything.

-- name: void
-- Results become pending again; the attempts stay, marked, and the task starts with fresh counters.
with chosen as (
    select t.id as task_id, a.id as attempt_id
      from tasks t
      join attempts a on a.task_id = t.id and a.outcome = 'ok' and a.voided_at is null
      join engines e on e.id = t.engine_id
     where t.state = 'done'
       and (%(keys)s::text[] is null or t.key = any(%(keys)s::text[]))
       and (%(campaign_id)s::int is null or exists (select from campaign_tasks c
            where c.task_id = t.id and c.campaign_id = %(campaign_id)s::int))
       and (%(model)s::text is null or e.model = %(model)s::text)
       and (%(gate)s::text is null or %(gate)s::text = any(a.marks))
     order by t.id
       for update of t
), voided as (
    update attempts a
       set voided_at = now(), void_reason = %(reason)s
      from chosen
     where a.id = chosen.attempt_id and a.voided_at is null
 returning a.task_id
)
update tasks t
   set state = 'pending', lease_id = null, not_before = null, faults = 0, losses = 0, invalids = 0
  from voided
 where t.id = voided.task_id
returning t.id, 'done' as was;

-- name: retry
-- Quarantined tasks become pending with fresh counters. With a gate: those that it voided, and the
-- results that it marked.
with meant as (
    select t.id
      from tasks t join engines e on e.id = t.engine_id
     where (%(keys)s::text[] is null or t.key = any(%(keys)s::text[]))
       and (%(campaign_id)s::int is null or exists (select from campaign_tasks c
            where c.task_id = t.id and c.campaign_id = %(campaign_id)s::int))
       and (%(model)s::text is null or e.model = %(model)s::text)
), failed as (
    select t.id, t.state
      from tasks t join meant using (id)
     where t.state = 'quarantined'
       and (%(gate)s::text is null or t.reason = 'invalid:' || %(gate)s::text)
     order by t.id
       for update of t
), marked as (
    select t.id, t.state, a.id as attempt_id
      from tasks t
      join meant using (id)
      join attempts a on a.task_id = t.id and a.outcome = 'ok' and a.voided_at is null
     where t.state = 'done' and %(gate)s::text = any(a.marks)
     order by t.id
       for update of t
), voided as (
    update attempts a
       set voided_at = now(), void_reason = %(reason)s
      from marked
     where a.id = marked.attempt_id and a.voided_at is null
 returning a.task_id
), again as (
    select id, state from failed
     union all
    select marked.id, marked.state from marked join voided on voided.task_id = marked.id
)
update tasks t
   set state = 'pending', reason = null, lease_id = null, not_before = null, faults = 0, losses = 0, invalids = 0
  from again
 where t.id = again.id
returning t.id, again.state as was;

-- name: describe
-- Tasks in words, for people who changed them.
select t.id, t.key, g.backend, g.model, g.board, g.workload, t.replicate,
       array(select c.name from campaign_tasks k join campaigns c on c.id = k.campaign_id
              where k.task_id = t.id order by c.name) as campaigns
  from tasks t join configurations g on g.task_id = t.id
 where t.id = any(%(ids)s)
 order by g.backend, g.model, t.id;

-- name: campaigns
-- Names of campaigns.
select id, name from campaigns order by name;

-- name: models
-- Models there are tasks of.
select distinct e.model from engines e where exists (select from tasks t where t.engine_id = e.id)
 order by e.model;

-- name: gates
-- Gates that marked an accepted result or voided an attempt.
select m.gate
  from attempts a, unnest(a.marks) m(gate)
 where a.outcome = 'ok' and a.voided_at is null
 union
select a.kind from attempts a where a.outcome = 'invalid' and a.kind is not null
 order by gate;
