-- What measured batches took: what the estimate is compared with. Nothing here writes.

-- name: measured
-- Accepted batches of equal requests on a real board and backend, without speculation, a row per
-- measurement: seconds and joules of one batch. A stand-in is no board.
select e.*, t.key, t.input_tokens, t.output_tokens, t.batch_size, t.workload,
       sum(r.duration_s) / sum(r.batches) as batch_s,
       case when bool_and(r.energy_j is not null) then sum(r.energy_j) / sum(r.batches) end
           as energy_j
  from engines e
  join tasks t on t.engine_id = e.id
  join attempts a on a.task_id = t.id
  join repeats r on r.attempt_id = a.id
 where e.board = %(board)s and e.backend = %(backend)s
   and e.mode = 'offline' and e.speculation is null
   and t.reality = 'real' and t.workload - array['decoding', 'beams', 'temperature', 'top_p'] = '{}'
 group by t.id, e.id, a.id
having bool_and(r.reality = 'real') and sum(r.batches) > 0 and sum(r.duration_s) > 0
 order by t.id, a.id;
