-- Points by campaign, board, state and reason: done, waiting, quarantined, and excluded by the plan
select c.name as campaign, e.board, t.state, t.reason, count(*)::bigint as points
  from tasks t
  join engines e on e.id = t.engine_id
  join campaign_tasks k on k.task_id = t.id
  join campaigns c on c.id = k.campaign_id
 where coalesce(current_setting('campaign.name', true), '') in ('', c.name)
 group by c.name, e.board, t.state, t.reason
 union all
select c.name, null, 'excluded', x.reason, sum(x.points)::bigint
  from exclusions x join campaigns c on c.id = x.campaign_id
 where coalesce(current_setting('campaign.name', true), '') in ('', c.name)
 group by c.name, x.reason
 order by campaign, state, points desc, reason, board;
