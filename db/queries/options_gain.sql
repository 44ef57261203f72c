-- What one option of an engine changes (CUDA graphs, compilation, …), all others being equal
with held as (
    select e.id as engine_id, o.key as option, o.value, e.options - o.key as rest,
           min(e.id) over (partition by to_jsonb(e) - '{id,digest,options}'::text[], o.key,
                                        e.options - o.key) as held
      from engines e, jsonb_each(e.options) o
), told as materialized (
    select *, md5(concat_ws('|', option, held, 'version=' || backend_version, reality, protocol_id,
                            workload)) as alike
      from points join held using (engine_id)
)
select b.option, a.value as from_value, b.value as to_value, b.model, b.weights, b.model_commit,
       b.backend, b.backend_version, b.dtype, b.quantization, b.tensor_parallel, b.threads,
       b.rest as options, b.mode, b.speculation, b.speculative_tokens, b.draft, b.power_limit_w,
       b.board, b.board_count, b.reality, b.protocol, b.protocol_id, b.workload,
       a.joules_per_output_token as from_joules_per_output_token,
       b.joules_per_output_token as to_joules_per_output_token,
       100 * (1 - b.joules_per_output_token / a.joules_per_output_token) as energy_saved_pct,
       100 * (1 - b.e2e_s / nullif(a.e2e_s, 0)) as latency_saved_pct
  from told a join told b using (alike)
 where a.value > b.value
 order by b.option, b.model, b.backend, b.board, b.reality, b.protocol, b.workload;
