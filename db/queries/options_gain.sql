-- What one option of an engine changes (CUDA graphs, compilation, …), all others being equal
with told as materialized (
    select p.*, o.key as option, o.value, p.options - o.key as rest,
           md5(concat_ws('|', p.model, p.weights, p.backend, p.backend_version,
                         'quantization=' || p.quantization, 'speculation=' || p.speculation, p.board,
                         p.board_count, p.tensor_parallel, p.reality, p.protocol_id, p.workload,
                         o.key, p.options - o.key)) as alike
      from points p, jsonb_each(p.options) o
)
select b.option, a.value as from_value, b.value as to_value, b.model, b.weights, b.backend,
       b.backend_version, b.quantization, b.board, b.board_count, b.reality, b.protocol, b.workload,
       b.rest as options, a.joules_per_output_token as from_joules_per_output_token,
       b.joules_per_output_token as to_joules_per_output_token,
       100 * (1 - b.joules_per_output_token / a.joules_per_output_token) as energy_saved_pct,
       100 * (1 - b.e2e_s / nullif(a.e2e_s, 0)) as latency_saved_pct
  from told a join told b using (alike)
 where a.value > b.value
 order by b.option, b.model, b.backend, b.board, b.reality, b.protocol, b.workload;
