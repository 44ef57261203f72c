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
-- tasks that its sessions finished, and those estimated of the same tasks; seconds of the loads
-- before. A task begins where the session's last one ended, and a load where the session before it
-- left the boards, unless that is five minutes ago: then nobody was at work. Attempts are numbered
-- as they are opened, so that the end of the primary key is read and nothing else.
with newest as (
    select a.id, a.task_id, a.session_id, a.outcome, a.opened_at, a.closed_at,
           least(a.opened_at, lag(a.closed_at) over (partition by a.session_id order by a.id))
               as begun_at
      from (select * from attempts order by id desc limit %(newest)s) a
), means as (
    select g.engine_id, g.task_s
      from campaigns c
     cross join lateral jsonb_to_recordset(c.grid -> 'engines')
           g (engine_id int, task_s double precision)
     where c.id = %(campaign_id)s
), expected as materialized (
    select g.*
      from campaigns c
     cross join lateral jsonb_to_recordset(c.grid -> 'works')
           g (engine_id int, input_tokens int, output_tokens int, batch_size int, workload jsonb,
              seconds double precision)
     where c.id = %(campaign_id)s
), tasks_done as (
    select s.engine_id, count(*)::int as tasks,
           sum(extract(epoch from n.closed_at - n.begun_at))::double precision as tasks_s,
           sum(coalesce(x.seconds, m.task_s)) as expected_s,
           extract(epoch from now() - max(n.closed_at))::double precision as ago_s
      from newest n
      join sessions s on s.id = n.session_id
      join tasks t on t.id = n.task_id
      left join means m on m.engine_id = s.engine_id
      left join expected x on (x.engine_id, x.input_tokens, x.output_tokens, x.batch_size, x.workload)
                            = (s.engine_id, t.input_tokens, t.output_tokens, t.batch_size, t.workload)
     where n.outcome = 'ok' and s.campaign_id = %(campaign_id)s
     group by s.engine_id
), sessions_seen as (
    select s.engine_id, s.boot, e.board, s.gpu_uuids, s.started_at,
           min(n.opened_at) as ready_at, max(n.closed_at) as left_at
      from newest n
      join sessions s on s.id = n.session_id
      join engines e on e.id = s.engine_id
     where s.campaign_id = %(campaign_id)s
       and (s.started_at >= (select min(opened_at) from newest)
            or (select count(*) from newest) < %(newest)s)
     group by s.id, e.board
), loaded as (
    select engine_id, ready_at, started_at,
           lag(left_at) over (partition by boot, board, gpu_uuids order by started_at) as free_at
      from sessions_seen
), loads as (
    select engine_id, count(*)::int as loads,
           sum(extract(epoch from ready_at - case
                   when free_at between started_at - interval '5 min' and started_at then free_at
                   else started_at end))::double precision as loads_s
      from loaded
     group by engine_id
)
select engine_id, coalesce(tasks, 0) as tasks, coalesce(tasks_s, 0) as tasks_s,
       coalesce(expected_s, 0) as expected_s, coalesce(loads, 0) as loads,
       coalesce(loads_s, 0) as loads_s, ago_s
  from tasks_done full join loads using (engine_id);
