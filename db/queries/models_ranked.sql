-- Models by joules per output token within the same board, backend and work, least first
with held as (
    select id as engine_id,
           min(id) over (partition by to_jsonb(e)
                         - '{id,digest,model,model_commit,architecture}'::text[]) as held
      from engines e
), told as (
    select *, md5(concat_ws('|', held, 'version=' || backend_version, reality, protocol_id,
                            workload)) as alike
      from points join held using (engine_id)
     where speculation is null
)
select board, board_count, backend, backend_version, dtype, quantization, tensor_parallel, threads,
       options, mode, power_limit_w, weights, reality, protocol, protocol_id, workload, model,
       model_commit, replicates, joules_per_output_token, output_tokens_per_s,
       rank() over (partition by alike order by joules_per_output_token)::int as place
  from told
 order by board, board_count, backend, reality, protocol, workload, place, model;
