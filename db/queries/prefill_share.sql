-- The share of prefill in prefill and decode, by measurement, where no step mixed them
with summed as (
    select w.attempt_id, p.method,
           sum(p.energy_j) filter (where p.phase = 'prefill') as prefill_j,
           sum(p.energy_j) filter (where p.phase = 'decode') as decode_j,
           bool_and(p.energy_j is not null) filter (where p.phase <> 'mixed') as complete,
           coalesce(sum(p.duration_s) filter (where p.phase = 'mixed'), 0) as mixed_s
      from phases p join windows w on w.id = p.window_id
     group by w.attempt_id, p.method
)
select m.model, m.backend, m.board, m.board_count, m.reality, m.protocol, m.workload, m.input_tokens,
       m.output_tokens, m.batch_size, m.replicate, s.method, s.prefill_j, s.decode_j,
       s.prefill_j / (s.prefill_j + s.decode_j) as prefill_share
  from summed s join measurements m using (attempt_id)
 where s.complete and s.mixed_s = 0
 order by m.model, m.backend, m.board, m.reality, m.protocol, m.input_tokens, m.output_tokens,
          m.batch_size, m.replicate, s.method;
