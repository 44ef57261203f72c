-- Joules per output token by board, relative to the board that takes least for the same work
-- Whatever number of boards, with the threads that a CPU computes with: the engine is the same else.
with held as (
    select id as engine_id,
           min(id) over (partition by to_jsonb(e)
                         - '{id,digest,board,board_count,tensor_parallel,threads}'::text[]) as held
      from engines e
), told as (
    select *, md5(concat_ws('|', held, 'version=' || backend_version, reality, protocol_id,
                            workload)) as alike
      from points join held using (engine_id)
     where speculation is null
)
select model, weights, model_commit, backend, backend_version, dtype, quantization, options, mode,
       power_limit_w, reality, protocol, protocol_id, workload, board, board_count, tensor_parallel,
       threads, replicates, joules_per_output_token, output_tokens_per_s,
       joules_per_output_token / min(joules_per_output_token) over (partition by alike)
           as over_the_least
  from told
 order by model, backend, reality, protocol, workload, over_the_least, board, board_count;
