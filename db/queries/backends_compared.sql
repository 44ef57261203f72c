-- The same model, board and work in two backends: joules and time of one over the other
with told as materialized (
    select *, md5(concat_ws('|', model, weights, 'quantization=' || quantization,
                            'speculation=' || speculation, board, board_count, reality, protocol_id,
                            workload)) as alike
      from points
     where options = '{}'
)
select a.model, a.weights, a.quantization, a.board, a.board_count, a.reality, a.protocol, a.workload,
       a.backend, a.backend_version, b.backend as against, b.backend_version as against_version,
       a.joules_per_output_token, b.joules_per_output_token as against_joules_per_output_token,
       a.joules_per_output_token / b.joules_per_output_token as energy_ratio,
       a.e2e_s / nullif(b.e2e_s, 0) as latency_ratio
  from told a join told b using (alike)
 where b.backend > a.backend
 order by a.model, a.board, a.reality, a.protocol, a.workload, a.backend, b.backend;
