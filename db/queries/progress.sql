-- Tasks of every campaign by state, with the share that is done
select c.name as campaign, c.owner, c.created_at, count(t.id)::int as tasks,
       count(*) filter (where t.state = 'done')::int as done,
       count(*) filter (where t.state = 'leased')::int as leased,
       count(*) filter (where t.state = 'pending')::int as pending,
       count(*) filter (where t.state = 'quarantined')::int as quarantined,
       count(*) filter (where t.state = 'excluded')::int as excluded,
       (select coalesce(sum(x.points), 0)::int from exclusions x where x.campaign_id = c.id)
           as points_left_out,
       100.0 * count(*) filter (where t.state = 'done') / nullif(count(t.id), 0) as done_pct
  from campaigns c
  left join campaign_tasks k on k.campaign_id = c.id
  left join tasks t on t.id = k.task_id
 group by c.id
 order by c.created_at, c.id;
