-- What measured: sessions by board, engine, meter and software, with their hosts and times
select e.board, e.backend, s.reality, s.meter, s.software,
       count(distinct s.id)::int as sessions, array_agg(distinct s.host) as hosts,
       count(distinct g)::int as gpus,
       min(s.started_at) as first_started_at, max(s.started_at) as last_started_at
  from sessions s
  join engines e on e.id = s.engine_id
  left join unnest(s.gpu_uuids) g on true
 where exists (select from attempts a
                where a.session_id = s.id and a.outcome = 'ok' and a.voided_at is null
                  and ((select coalesce(current_setting('campaign.name', true), '') = '')
                       or a.task_id in (select k.task_id
                                          from campaign_tasks k
                                          join campaigns c on c.id = k.campaign_id
                                         where c.name = current_setting('campaign.name', true))))
 group by e.board, e.backend, s.reality, s.meter, s.software
 order by e.board, e.backend, s.reality, s.meter, first_started_at;
