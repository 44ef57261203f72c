-- The same model, board and work in two backends: joules and time of one over the other
-- Options and versions are each backend's own, so both are told; every pair of them is a row.
with held as (
    select id as engine_id,
           min(id) over (partition by to_jsonb(e)
                         - '{id,digest,backend,backend_version,options}'::text[]) as held
      from engines e
), told as materialized (
    select *, md5(concat_ws('|', held, reality, protocol_id, workload)) as alike
      from points join held using (engine_id)
)
select a.model, a.weights, a.model_commit, a.dtype, a.quantization, a.tensor_parallel, a.threads,
       a.mode, a.speculation, a.speculative_tokens, a.draft, a.power_limit_w, a.board, a.board_count,
       a.reality, a.protocol, a.protocol_id, a.workload,
       a.backend, a.backend_version, a.options, b.backend as against,
       b.backend_version as against_version, b.options as against_options,
       a.joules_per_output_token, b.joules_per_output_token as against_joules_per_output_token,
       a.joules_per_output_token / b.joules_per_output_token as energy_ratio,
       a.e2e_s / nullif(b.e2e_s, 0) as latency_ratio
  from told a join told b using (alike)
 where b.backend > a.backend
 order by a.model, a.board, a.reality, a.protocol, a.workload, a.backend, b.backend, a.options,
          b.options;
