-- What splitting a model over more boards costs in joules and saves in time, against the fewest
with held as (
    select id as engine_id,
           min(id) over (partition by to_jsonb(e)
                         - '{id,digest,board_count,tensor_parallel}'::text[]) as held
      from engines e
), told as (
    select *, md5(concat_ws('|', held, 'version=' || backend_version, reality, protocol_id,
                            workload)) as alike
      from points join held using (engine_id)
     where speculation is null
), against as (
    select *, min(tensor_parallel) over one as fewest,
           first_value(joules_per_output_token) over one as joules_of_fewest,
           first_value(e2e_s) over one as e2e_s_of_fewest
      from told
    window one as (partition by alike order by tensor_parallel, board_count
                   rows between unbounded preceding and unbounded following)
)
select model, weights, model_commit, backend, backend_version, dtype, quantization, threads, options,
       mode, power_limit_w, board, reality, protocol, protocol_id, workload, fewest, tensor_parallel,
       board_count, replicates, joules_per_output_token, e2e_s, output_tokens_per_s,
       100 * (joules_per_output_token / joules_of_fewest - 1) as energy_change_pct,
       100 * (e2e_s / nullif(e2e_s_of_fewest, 0) - 1) as latency_change_pct
  from against
 where tensor_parallel > fewest
 order by model, backend, board, reality, protocol, workload, tensor_parallel;
