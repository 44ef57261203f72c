-- Board hours and kilowatt-hours of every campaign so far, by board; idle and loading included
select c.name as campaign, e.board, s.reality, count(*)::int as sessions,
       sum(extract(epoch from coalesce(s.ended_at, now()) - s.started_at) * e.board_count / 3600)
           as board_hours,
       sum(w.energy_j) / 3.6e6 as measured_kwh,
       sum(w.load_j) / 3.6e6 as of_it_loading_kwh,
       sum(w.estimated_j) / 3.6e6 as estimated_kwh,
       sum(w.blind)::int as windows_without_energy
  from sessions s
  join campaigns c on c.id = s.campaign_id
  join engines e on e.id = s.engine_id
  left join (select session_id, sum(energy_j) as energy_j, sum(energy_estimated_j) as estimated_j,
                    sum(energy_j) filter (where kind = 'load') as load_j,
                    count(*) filter (where energy_j is null) as blind
               from windows group by session_id) w on w.session_id = s.id
 group by c.id, e.board, s.reality
 order by c.created_at, c.id, e.board, s.reality;
