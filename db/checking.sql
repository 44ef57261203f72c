-- What of a campaign falls short: what `check` reads. Nothing here writes.

-- name: marked
-- Accepted results that a gate marked, by gate, engine and workload.
select m.gate, g.backend, g.model, g.tensor_parallel, g.board, g.workload, g.protocol,
       count(*)::int as results
  from campaign_tasks c
  join tasks t on t.id = c.task_id
  join configurations g on g.task_id = t.id
  join attempts a on a.task_id = t.id and a.outcome = 'ok' and a.voided_at is null
 cross join unnest(a.marks) m(gate)
 where c.campaign_id = %(campaign_id)s
 group by m.gate, g.engine_id, g.protocol_id, g.backend, g.model, g.tensor_parallel, g.board,
          g.workload, g.protocol
 order by m.gate, min(t.ordinal), g.engine_id, g.protocol_id;

-- name: voided
-- Attempts that a gate voided, and the tasks quarantined for it, by gate, engine and workload.
select a.kind as gate, g.backend, g.model, g.tensor_parallel, g.board, g.workload, g.protocol,
       count(*)::int as attempts,
       (count(distinct t.id)
           filter (where t.state = 'quarantined' and t.reason = 'invalid:' || a.kind))::int
           as quarantined
  from campaign_tasks c
  join tasks t on t.id = c.task_id
  join configurations g on g.task_id = t.id
  join attempts a on a.task_id = t.id and a.outcome = 'invalid'
 where c.campaign_id = %(campaign_id)s
 group by a.kind, g.engine_id, g.protocol_id, g.backend, g.model, g.tensor_parallel, g.board,
          g.workload, g.protocol
 order by a.kind, min(t.ordinal), g.engine_id, g.protocol_id;

-- name: results
-- Accepted results of a campaign, of how many tasks.
select count(a.id)::int as results, count(*)::int as tasks
  from campaign_tasks c
  left join attempts a
    on a.task_id = c.task_id and a.outcome = 'ok' and a.voided_at is null
 where c.campaign_id = %(campaign_id)s;
