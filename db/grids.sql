-- What a campaign's tasks were expanded from, and the engines they came to.

-- name: remember
-- The campaign's tasks are those of this grid.
update campaigns set grid = %(grid)s::jsonb where id = %(campaign_id)s;

-- name: recall
-- The campaign, if its tasks are those of this grid.
select id from campaigns where name = %(name)s and grid ->> 'digest' = %(digest)s;

-- name: engines
-- The engines of a campaign's grid.
select e.*, g.*
  from campaigns c
 cross join lateral jsonb_to_recordset(c.grid -> 'engines')
       g (engine_id int, tasks int, task_s double precision, load_s double precision,
          context_tokens int, batch_size int)
  join engines e on e.id = g.engine_id
 where c.id = %(campaign_id)s
 order by g.engine_id;

-- name: exclusions
-- Points that the grid leaves out, by reason and detail.
select reason, detail, sum(points)::int as points
  from exclusions
 where campaign_id = %(campaign_id)s
 group by reason, detail
 order by reason, detail;

-- name: paces
-- What the newest %(newest)s attempts of the store tell of a campaign's engines: seconds of the
-- tasks that its sessions finished, and of the loads before. Attempts are numbered as they are
-- opened, so that the end of the primary key is read and nothing else.
with newest as (
    select a.session_id, a.outcome, a.opened_at, a.closed_at
      from attempts a
     order by a.id desc
     limit %(newest)s
), tasks_done as (
    select s.engine_id, count(*)::int as tasks,
           sum(extract(epoch from n.closed_at - n.opened_at))::double precision as tasks_s
      from newest n
      join sessions s on s.id = n.session_id
     where n.outcome = 'ok' and s.campaign_id = %(campaign_id)s
     group by s.engine_id
), loaded as (
    select s.engine_id, min(n.opened_at) - s.started_at as took
      from newest n join sessions s on s.id = n.session_id
     where s.campaign_id = %(campaign_id)s
       and (s.started_at >= (select min(opened_at) from newest)
            or (select count(*) from newest) < %(newest)s)
     group by s.id
), loads as (
    select engine_id, count(*)::int as loads,
           sum(extract(epoch from took))::double precision as loads_s
      from loaded
     group by engine_id
)
select engine_id, coalesce(tasks, 0) as tasks, coalesce(tasks_s, 0) as tasks_s,
       coalesce(loads, 0) as loads, coalesce(loads_s, 0) as loads_s
  from tasks_done full join loads using (engine_id);
