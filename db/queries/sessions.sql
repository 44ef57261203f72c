-- Loaded engines: where, when, with which meter and versions, how they ended and what they measured
select s.started_at, s.ended_at, s.outcome, c.name as campaign, e.backend, e.model, e.board, s.host,
       s.meter, s.reality, s.gpu_uuids,
       count(a.id) filter (where a.outcome = 'ok')::int as ok,
       count(a.id) filter (where a.outcome in ('faulted', 'lost', 'invalid'))::int as failed,
       s.software,
       reverse(split_part(reverse(rtrim(s.error, E' \n')), E'\n', 1)) as last_line,
       s.id as session_id
  from sessions s
  join campaigns c on c.id = s.campaign_id
  join engines e on e.id = s.engine_id
  left join attempts a on a.session_id = s.id
 group by s.id, c.name, e.backend, e.model, e.board
 order by s.started_at, s.id;
