-- The lease statements. Only Postgres' clock counts. The fence is tasks.lease_id, and it stands on
-- the task's own row: a statement that had to wait for that row sees the newest value when it gets
-- it (a look at another table would not). It names the newest attempt as long as that may still
-- finish: a claim replaces it, a fault or a gate clears it; reap, bury and release leave it, so that
-- a measurement that comes late counts while nobody else has begun.
-- Every statement takes the task's row before the attempt's, so that none waits the other way round.

-- name: claim
-- Lease the next task of an engine and open its attempt; the same lease_id sent again gets the same
-- task. With keys, none but these are leased; with a replicate, none of another.
with mine as (
    select t.* from tasks t where t.lease_id = %(lease_id)s and t.state = 'leased'
), next as (
    select t.id
      from tasks t
     where t.engine_id = %(engine_id)s
       and t.state = 'pending'
       and (t.not_before is null or t.not_before <= now())
       and (%(keys)s::text[] is null or t.key = any(%(keys)s::text[]))
       and t.replicate = coalesce(%(replicate)s, t.replicate)
       and exists (select from campaign_tasks c
                    where c.task_id = t.id and c.campaign_id = %(campaign_id)s)
       and not exists (select from mine)
     order by t.ordinal, t.id
     limit 1
       for no key update skip locked
), leased as (
    update tasks t
       set state = 'leased', lease_id = %(lease_id)s, attempts = t.attempts + 1, not_before = null,
           lease_expires_at = now() + make_interval(secs => %(lease_s)s)
      from next
     where t.id = next.id
 returning t.*
), opened as (
    insert into attempts (task_id, number, lease_id, session_id)
    select id, attempts, %(lease_id)s, %(session_id)s from leased
)
select c.id, c.key, c.input_tokens, c.output_tokens, c.batch_size, c.workload, c.reality,
       c.replicate, p.name as protocol, p.numbers
  from (select * from leased union all select * from mine) c
  join protocols p on p.id = c.protocol_id;

-- name: beat
-- Extend a lease; no row back means that it is lost.
update tasks
   set lease_expires_at = now() + make_interval(secs => %(lease_s)s)
 where lease_id = %(lease_id)s and state = 'leased'
returning id;

-- name: finish
-- Accept a measurement while its attempt is the newest of its task and the task has no result, and
-- keep its windows.
with accepted as (
    update tasks t
       set state = 'done', lease_expires_at = null, not_before = null, reason = null
      from attempts a
     where a.lease_id = %(lease_id)s
       and (a.outcome is null or a.outcome in ('lost', 'released'))
       and t.id = a.task_id and t.lease_id = a.lease_id and t.state <> 'done'
 returning t.id
), closed as (
    update attempts a
       set outcome = case when exists (select from accepted) then 'ok' else 'superseded' end,
           closed_at = now(), warmup_batches = %(warmup_batches)s, marks = %(marks)s
     where a.lease_id = %(lease_id)s
       and (a.outcome is null or a.outcome in ('lost', 'released'))
 returning a.id, a.outcome
), /* windows */
select id, outcome from closed;

-- name: decided
-- How the attempt of a lease ended and what became of its task, for a caller whose reply was lost.
select a.outcome, case when t.attempts = a.number then t.state else 'pending' end as state
  from attempts a join tasks t on t.id = a.task_id
 where a.lease_id = %(lease_id)s;

-- name: hold
-- Wait for the task of a lease, so that the next statement sees what became of its attempt.
select id from tasks where lease_id = %(lease_id)s for no key update;

-- name: give_back
-- Close an attempt without a result (faulted, invalid or released) and settle its task. Late, after
-- reap, bury or release, it counts as what it was and no longer as a loss, while nobody else has
-- begun; after that it is superseded and counts nothing. A task that was taken out for another
-- reason stays out.
with settled as (
    update tasks t
       set faults = t.faults + (%(outcome)s::text = 'faulted')::int,
           invalids = t.invalids + (%(outcome)s::text = 'invalid')::int,
           losses = greatest(t.losses - (a.outcome is not distinct from 'lost')::int, 0),
           lease_id = case when %(outcome)s::text = 'released' then t.lease_id end,
           lease_expires_at = null,
           (state, reason, not_before) = (
               select case when out then t.state when ends then 'quarantined' else 'pending' end,
                      case when out then t.reason
                           when ends then concat_ws(':', %(outcome)s::text, %(kind)s::text) end,
                      case when not out and not ends
                           then now() + make_interval(secs => %(delay_s)s) end
                 from (select t.reason <> 'lost' is true,
                              %(permanent)s::bool
                           or (%(outcome)s::text = 'faulted' and t.faults + 1 >= %(max_faults)s)
                           or (%(outcome)s::text = 'invalid' and t.invalids + 1 >= %(max_invalid)s)
                      ) budget (out, ends))
      from attempts a
     where t.lease_id = %(lease_id)s and t.state <> 'done'
       and a.lease_id = t.lease_id and a.outcome is distinct from %(outcome)s::text
 returning t.id, t.state
)
update attempts a
   set outcome = case when exists (select from settled) then %(outcome)s::text
                      else 'superseded' end,
       closed_at = now(), kind = %(kind)s::text, error = %(error)s, marks = %(marks)s
 where a.lease_id = %(lease_id)s and a.outcome is distinct from %(outcome)s::text
   and (a.outcome is null or a.outcome in ('lost', 'released'))
returning a.id, (select state from settled) as state;

-- name: known
-- Whose attempt a lease opened: its session and its task.
select a.session_id, t.key from attempts a join tasks t on t.id = a.task_id
 where a.lease_id = %(lease_id)s;

-- name: reap
-- Take back leases that expired, once the server has been up for one lease, and count the losses.
with reaped as (
    update tasks t
       set losses = t.losses + 1, lease_expires_at = null,
           state = case when t.losses + 1 >= %(max_lost)s then 'quarantined' else 'pending' end,
           reason = case when t.losses + 1 >= %(max_lost)s then 'lost' end
     where t.state = 'leased'
       and t.lease_expires_at < now()
       and pg_postmaster_start_time() < now() - make_interval(secs => %(lease_s)s)
 returning t.lease_id
)
update attempts a
   set outcome = 'lost', closed_at = now(), kind = 'lease_expired'
  from reaped
 where a.lease_id = reaped.lease_id and a.outcome is null
returning a.task_id;

-- name: bury
-- Take back at once the leases of sessions whose process is known to be dead; close those sessions.
with dead as (
    update sessions s
       set outcome = 'lost', ended_at = now()
     where s.id = any(%(sessions)s) and s.outcome is null
), buried as (
    update tasks t
       set losses = t.losses + 1, lease_expires_at = null,
           state = case when t.losses + 1 >= %(max_lost)s then 'quarantined' else 'pending' end,
           reason = case when t.losses + 1 >= %(max_lost)s then 'lost' end
      from attempts o
     where o.session_id = any(%(sessions)s) and o.outcome is null
       and t.id = o.task_id and t.lease_id = o.lease_id and t.state = 'leased'
 returning t.lease_id
)
update attempts a
   set outcome = 'lost', closed_at = now(), kind = 'owner_died'
  from buried
 where a.lease_id = buried.lease_id and a.outcome is null
returning a.task_id;

-- name: attempted
-- Whether a session has claimed any task.
select 1 from attempts where session_id = %(session_id)s limit 1;

-- name: release
-- Give back, free of charge, whatever the named sessions hold: they were stopped on purpose.
with freed as (
    update tasks t
       set state = 'pending', lease_expires_at = null
      from attempts o
     where o.session_id = any(%(sessions)s) and o.outcome is null
       and t.id = o.task_id and t.lease_id = o.lease_id and t.state = 'leased'
 returning t.lease_id
)
update attempts a
   set outcome = 'released', closed_at = now()
  from freed
 where a.lease_id = freed.lease_id and a.outcome is null
returning a.task_id;

-- name: quarantine_engine
-- An engine that cannot load takes its remaining tasks out of the campaign in one statement.
update tasks t
   set state = 'quarantined', reason = %(reason)s, not_before = null
 where t.engine_id = %(engine_id)s and t.state = 'pending'
   and exists (select from campaign_tasks c
                where c.task_id = t.id and c.campaign_id = %(campaign_id)s)
returning t.id;

-- name: exclude_larger
-- A task that ran out of memory as often as it may excludes what is provably larger on the same
-- engine, never what is equal; of workloads that differ in more than their sizes none is known to be
-- the larger one. After its first fault it may still succeed, and what is excluded stays so.
update tasks t
   set state = 'excluded', reason = 'out_of_memory', not_before = null
  from tasks small
 where small.id = %(task_id)s
   and small.state = 'quarantined' and small.reason = 'faulted:out_of_memory'
   and t.engine_id = small.engine_id and t.state = 'pending'
   and t.batch_size >= small.batch_size
   and t.input_tokens >= small.input_tokens
   and t.output_tokens >= small.output_tokens
   and t.workload = small.workload
   and (t.batch_size, t.input_tokens, t.output_tokens)
       <> (small.batch_size, small.input_tokens, small.output_tokens)
returning t.id;

-- name: open_sessions
-- Sessions of one host that have not ended, to find the dead among them.
select id, pid, pid_started_s from sessions where boot = %(boot)s and outcome is null;
