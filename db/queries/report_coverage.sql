-- Points by campaign, board, state and reason, excluded ones too; of no campaign: of all, each once
-- What the plan excludes has no identity beyond its words: of lines that campaigns have in common the
-- campaign with the most points counts.
with asked as (
    select id, name from campaigns
     where coalesce(current_setting('campaign.name', true), '') in ('', name)
)
select c.name as campaign, e.board, t.state, t.reason, count(*)::bigint as points
  from tasks t
  join engines e on e.id = t.engine_id
  join campaign_tasks k on k.task_id = t.id
  join asked c on c.id = k.campaign_id
 group by c.name, e.board, t.state, t.reason
 union all
select c.name, null, 'excluded', x.reason, sum(x.points)::bigint
  from exclusions x join asked c on c.id = x.campaign_id
 group by c.name, x.reason
 union all
select null, e.board, t.state, t.reason, count(*)::bigint
  from tasks t join engines e on e.id = t.engine_id
 where t.id in (select k.task_id from campaign_tasks k join asked c on c.id = k.campaign_id)
 group by e.board, t.state, t.reason
 union all
select null, null, 'excluded', reason, sum(points)::bigint
  from (select reason, max(points) as points
          from (select x.engine, x.workload, x.reason, sum(x.points) as points
                  from exclusions x join asked c on c.id = x.campaign_id
                 group by c.id, x.engine, x.workload, x.reason) by_campaign
         group by engine, workload, reason) once
 group by reason
 order by campaign, state, points desc, reason, board;
