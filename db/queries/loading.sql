-- What loading an engine takes in seconds and joules, by engine and version of its backend
select e.backend, s.software ->> e.backend as backend_version, e.model, e.weights, e.model_commit,
       e.dtype, e.quantization, e.tensor_parallel, e.threads, e.options, e.mode, e.speculation,
       e.speculative_tokens, e.draft ->> 'name' as draft, e.power_limit_w, e.board, e.board_count,
       w.reality, count(*)::int as loads, avg(w.duration_s) as load_s,
       max(w.duration_s) as longest_load_s, avg(w.energy_j) as load_j
  from windows w
  join sessions s on s.id = w.session_id
  join engines e on e.id = s.engine_id
 where w.kind = 'load'
 group by e.id, s.software ->> e.backend, w.reality
 order by load_s desc, e.backend, e.model, e.board, e.id;
