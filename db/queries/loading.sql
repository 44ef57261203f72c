-- What loading an engine takes in seconds and joules, by model, backend and board
select e.backend, e.model, e.weights, e.board, e.board_count, w.reality, count(*)::int as loads,
       avg(w.duration_s) as load_s, max(w.duration_s) as longest_load_s, avg(w.energy_j) as load_j
  from windows w
  join sessions s on s.id = w.session_id
  join engines e on e.id = s.engine_id
 where w.kind = 'load'
 group by e.backend, e.model, e.weights, e.board, e.board_count, w.reality
 order by load_s desc, e.backend, e.model, e.board;
