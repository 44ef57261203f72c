-- Idle watts of a board group, empty and with a model resident, before and after the tasks
select e.board, e.board_count, w.reality, w.kind, count(*)::int as windows,
       avg(w.energy_j / w.duration_s) as mean_w, stddev_samp(w.energy_j / w.duration_s) as sd_w,
       min(w.energy_j / w.duration_s) as least_w, max(w.energy_j / w.duration_s) as most_w
  from windows w
  join sessions s on s.id = w.session_id
  join engines e on e.id = s.engine_id
 where w.kind in ('idle_empty', 'idle_resident', 'idle_end') and w.energy_j is not null
 group by e.board, e.board_count, w.reality, w.kind
 order by e.board, e.board_count, w.reality,
          array_position('{idle_empty,idle_resident,idle_end}', w.kind);
