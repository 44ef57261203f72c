-- Points no campaign measures, and why: found infeasible by the plan, or by an out-of-memory fault
select c.name as campaign, x.engine, x.workload, x.reason, x.detail, x.points
  from exclusions x join campaigns c on c.id = x.campaign_id
 union all
select c.name, format('%s %s on %s', g.backend, g.model, g.board), g.workload, t.reason,
       'larger than a workload that failed so on the same engine', 1
  from tasks t
  join configurations g on g.task_id = t.id
  join campaign_tasks k on k.task_id = t.id
  join campaigns c on c.id = k.campaign_id
 where t.state = 'excluded'
 order by campaign, reason, engine, workload nulls first;
