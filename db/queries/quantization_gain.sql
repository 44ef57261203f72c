-- What a number format saves in joules and time, against none on the same boards and work
with told as materialized (
    select *, md5(concat_ws('|', model, weights, backend, backend_version, board, board_count,
                            tensor_parallel, options, reality, protocol_id, workload)) as alike
      from points
     where speculation is null
)
select q.model, q.weights, q.backend, q.backend_version, q.board, q.board_count, q.options, q.reality,
       q.protocol, q.workload, q.quantization, q.replicates, q.joules_per_output_token,
       p.joules_per_output_token as joules_per_output_token_without,
       100 * (1 - q.joules_per_output_token / p.joules_per_output_token) as energy_saved_pct,
       100 * (1 - q.e2e_s / nullif(p.e2e_s, 0)) as latency_saved_pct
  from told q join told p using (alike)
 where q.quantization is not null and p.quantization is null
 order by q.model, q.backend, q.board, q.board_count, q.reality, q.protocol, q.workload,
          q.quantization;
