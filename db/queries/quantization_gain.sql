-- What a number format saves in joules and time, against none on the same boards and work
-- None is what computes in the same type, or in the first by name where that was not measured.
with held as (
    select id as engine_id,
           min(id) over (partition by to_jsonb(e) - '{id,digest,dtype,quantization}'::text[]) as held
      from engines e
), told as materialized (
    select *, md5(concat_ws('|', held, 'version=' || backend_version, reality, protocol_id,
                            workload)) as alike
      from points join held using (engine_id)
     where speculation is null
), pairs as (
    select distinct on (q.task_id)
           q.*, p.dtype as dtype_without, p.e2e_s as e2e_s_without,
           p.joules_per_output_token as joules_per_output_token_without
      from told q join told p using (alike)
     where q.quantization is not null and p.quantization is null
     order by q.task_id, p.dtype <> q.dtype, p.dtype
)
select model, weights, model_commit, backend, backend_version, dtype, quantization, dtype_without,
       tensor_parallel, threads, options, mode, power_limit_w, board, board_count, reality, protocol,
       protocol_id, workload, replicates, joules_per_output_token, joules_per_output_token_without,
       100 * (1 - joules_per_output_token / joules_per_output_token_without) as energy_saved_pct,
       100 * (1 - e2e_s / nullif(e2e_s_without, 0)) as latency_saved_pct
  from pairs
 order by model, backend, board, board_count, reality, protocol, workload, quantization, dtype;
