-- How far a campaign is. Nothing here writes.

-- name: progress
-- Tasks of a campaign by state, those that are not done by engine as well, and how many of them
-- could be claimed now. Each state that is not done has an index of its own, which a campaign
-- empties as it goes; what is done is the rest of what is asked for.
with unfinished as (
    select id, engine_id, state, not_before from tasks where state = 'pending'
    union all
    select id, engine_id, state, not_before from tasks where state = 'leased'
    union all
    select id, engine_id, state, not_before from tasks where state in ('quarantined', 'excluded')
), counted as (
    select u.engine_id, u.state, count(*) as tasks,
           count(*) filter (where u.state = 'pending'
                              and (u.not_before is null or u.not_before <= now())) as claimable
      from unfinished u
      join campaign_tasks c on c.task_id = u.id and c.campaign_id = %(campaign_id)s
     group by 1, 2
)
select engine_id, state, tasks, claimable from counted
 union all
select null, 'done', (select count(*) from campaign_tasks where campaign_id = %(campaign_id)s)
                     - (select coalesce(sum(tasks), 0)::bigint from counted), 0;

-- name: claimable
-- Whether a campaign has a task of an engine that could be claimed now.
select 1
  from tasks t
 where t.engine_id = %(engine_id)s
   and t.state = 'pending'
   and (t.not_before is null or t.not_before <= now())
   and exists (select from campaign_tasks c
                where c.task_id = t.id and c.campaign_id = %(campaign_id)s)
 order by t.ordinal, t.id
 limit 1;

-- name: joules
-- Joules (measured, estimated) of a campaign's accepted windows so far.
select sum(w.energy_j) as energy_j, sum(w.energy_estimated_j) as energy_estimated_j
  from campaign_tasks c
  join attempts a on a.task_id = c.task_id and a.outcome = 'ok' and a.voided_at is null
  join windows w on w.attempt_id = a.id
 where c.campaign_id = %(campaign_id)s;
