-- The share of prefill in prefill and decode, by measurement, where no step mixed them
with summed as (
    select attempt_id, method,
           sum(energy_j) filter (where phase = 'prefill') as prefill_j,
           sum(energy_j) filter (where phase = 'decode') as decode_j,
           bool_and(energy_j is not null) filter (where phase <> 'mixed') as complete,
           coalesce(sum(duration_s) filter (where phase = 'mixed'), 0) as mixed_s
      from phase_summaries
     group by attempt_id, method
)
select m.model, m.backend, m.board, m.board_count, m.reality, m.protocol, m.workload, m.input_tokens,
       m.output_tokens, m.batch_size, m.replicate, s.method, s.prefill_j, s.decode_j,
       s.prefill_j / (s.prefill_j + s.decode_j) as prefill_share, m.task_key
  from summed s join measurements m using (attempt_id)
 where s.complete and not s.mixed_s > 0 -- an equality would be taken for a rarity
 order by m.model, m.backend, m.board, m.reality, m.protocol, m.input_tokens, m.output_tokens,
          m.batch_size, m.replicate, s.method;
