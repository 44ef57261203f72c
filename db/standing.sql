-- How campaigns stand: what status and logs read. Nothing here writes.

-- name: campaigns
-- The campaigns of a store, oldest first.
select id, name, owner, created_at from campaigns order by created_at, id;

-- name: tasks
-- Tasks of a campaign by engine, state and reason.
select t.engine_id, e.backend, e.model, e.weights, e.board, e.tensor_parallel, t.state, t.reason,
       count(*)::int as tasks
  from campaign_tasks c
  join tasks t on t.id = c.task_id
  join engines e on e.id = t.engine_id
 where c.campaign_id = %(campaign_id)s
 group by t.engine_id, e.backend, e.model, e.weights, e.board, e.tensor_parallel, t.state, t.reason
 order by min(t.ordinal), t.engine_id, t.state, t.reason;

-- name: exclusions
-- Points a campaign leaves out, by reason.
select reason, sum(points)::int as points, min(detail) as detail
  from exclusions
 where campaign_id = %(campaign_id)s
 group by reason
 order by points desc, reason;

-- name: joules
-- Joules of a campaign's accepted windows by reality; a window without energy is counted apart.
select w.reality, sum(w.energy_j) as energy_j, sum(w.energy_estimated_j) as energy_estimated_j,
       count(*) filter (where w.energy_j is null)::int as windows_without_energy
  from campaign_tasks c
  join attempts a on a.task_id = c.task_id and a.outcome = 'ok' and a.voided_at is null
  join windows w on w.attempt_id = a.id
 where c.campaign_id = %(campaign_id)s
 group by w.reality;

-- name: running
-- Sessions of a campaign that have not ended, and the tasks they hold now.
select s.id as session_id, s.engine_id, s.host, s.boot, s.pid, s.pid_started_s, s.started_at,
       s.meter, s.gpu_uuids, e.backend, e.model, e.board, e.board_count,
       (select count(*)::int from attempts a where a.session_id = s.id and a.outcome is null)
           as leased
  from sessions s join engines e on e.id = s.engine_id
 where s.campaign_id = %(campaign_id)s and s.outcome is null
 order by s.started_at, s.id;

-- name: errors
-- The newest failures of a campaign: attempts that did not count, sessions that could not load.
select *
  from (select a.closed_at as at, e.backend, e.model, t.key as task_key, a.session_id, a.outcome,
               a.kind, a.error
          from campaign_tasks c
          join tasks t on t.id = c.task_id
          join attempts a on a.task_id = t.id and a.outcome in ('faulted', 'lost', 'invalid')
          join engines e on e.id = t.engine_id
         where c.campaign_id = %(campaign_id)s
         union all
        select s.ended_at, e.backend, e.model, null, s.id, s.outcome, null, s.error
          from sessions s join engines e on e.id = s.engine_id
         where s.campaign_id = %(campaign_id)s and s.error is not null) failures
 order by at desc nulls last
 limit %(newest)s;

-- name: find_tasks
-- Tasks whose key begins so; more than a few only say that the prefix is too short.
select t.id, t.key, t.state, t.reason, g.backend, g.model, g.board, g.workload, t.replicate
  from tasks t join configurations g on g.task_id = t.id
 where t.key like %(prefix)s || '%%'
 order by t.key
 limit 5;

-- name: find_sessions
-- Sessions whose id begins so.
select s.id, s.host, s.pid, s.started_at, s.ended_at, s.outcome, s.error, s.stderr_tail,
       s.gpu_uuids, s.meter, e.backend, e.model, e.board
  from sessions s join engines e on e.id = s.engine_id
 where s.id::text like %(prefix)s || '%%'
 order by s.started_at
 limit 5;

-- name: attempts
-- The attempts of a task, or of a session, in order; the engine's last words come once per session.
select a.number, a.outcome, a.kind, a.opened_at, a.closed_at, a.error, a.marks, a.voided_at,
       a.void_reason, t.key as task_key, s.id as session_id, s.host,
       s.outcome as session_outcome, s.error as session_error, s.stderr_tail
  from attempts a
  join tasks t on t.id = a.task_id
  join sessions s on s.id = a.session_id
 where a.task_id = %(task_id)s or a.session_id = %(session_id)s
 order by a.opened_at, a.number;
