-- Quarantined tasks and attempts that failed, newest first, with the last line of the error
select t.state, t.reason, g.backend, g.model, g.board, g.workload, t.replicate,
       a.number as attempt, a.outcome, a.kind,
       reverse(split_part(reverse(rtrim(coalesce(a.error, s.error), E' \n')), E'\n', 1))
           as last_line,
       a.closed_at, s.host, t.key as task_key, s.id as session_id
  from tasks t
  join configurations g on g.task_id = t.id
  left join attempts a on a.task_id = t.id and a.outcome in ('faulted', 'lost', 'invalid')
  -- A task whose engine never loaded has no attempt: the newest failed session says why.
  left join lateral (
       select f.id, f.host, f.error
         from sessions f
        where case when a.id is null then f.engine_id = t.engine_id and f.error is not null
                   else f.id = a.session_id end
        order by f.started_at desc
        limit 1) s on true
 where a.id is not null or t.state = 'quarantined'
 order by a.closed_at desc nulls first, t.id, a.number;
