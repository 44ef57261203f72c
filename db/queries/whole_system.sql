-- Joules per output token of the boards, CPU and DRAM, and whether the whole reorders models
-- Models are ranked where all else is equal, once by the boards alone and once with the host; only
-- where the host was metered and not shared. What rows are sorted by stands before what may be null
-- in `told`: a sort reads a row up to there, every time it compares.
with held as (
    select id as engine_id,
           min(id) over (partition by to_jsonb(e)
                         - '{id,digest,model,model_commit,architecture}'::text[]) as held
      from engines e
), told as (
    select board_count, board, backend, reality, protocol, workload, model, weights, model_commit,
           backend_version, dtype, quantization, tensor_parallel, threads, options, mode, speculation,
           speculative_tokens, draft, power_limit_w, protocol_id, replicates,
           joules_per_output_token_with_host as board_joules_per_output_token,
           cpu_joules_per_output_token, dram_joules_per_output_token,
           joules_per_output_token_with_host + cpu_joules_per_output_token
               + dram_joules_per_output_token as whole_joules_per_output_token,
           md5(concat_ws('|', held, 'version=' || backend_version, reality, protocol_id, workload))
               as alike
      from points join held using (engine_id)
     where joules_per_output_token_with_host is not null and board not like 'cpu:%'
), ranked as (
    select *, 1 - board_joules_per_output_token / whole_joules_per_output_token as host_share,
           rank() over (part order by board_joules_per_output_token) as rank_of_boards,
           rank() over (part order by whole_joules_per_output_token) as rank_of_whole,
           count(*) over part as compared
      from told
    window part as (partition by alike)
     order by board, board_count, backend, reality, protocol, workload, rank_of_boards, model
)
select model, weights, model_commit, backend, backend_version, dtype, quantization, tensor_parallel,
       threads, options, mode, speculation, speculative_tokens, draft, power_limit_w, board,
       board_count, reality, protocol, protocol_id, workload, replicates,
       board_joules_per_output_token, cpu_joules_per_output_token, dram_joules_per_output_token,
       whole_joules_per_output_token, host_share, rank_of_boards, rank_of_whole, compared,
       rank_of_boards <> rank_of_whole as reordered
  from ranked
 order by board, board_count, backend, reality, protocol, workload, rank_of_boards, model;
