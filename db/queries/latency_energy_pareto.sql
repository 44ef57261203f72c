-- Configurations that nothing beats in both joules per output token and time per request
-- Among those of one model and work, but for the batch: whatever board and engine.
with told as (
    select *, replace(workload, ' x' || batch_size, '') as work
      from points
     where e2e_s is not null
), walked as (
    -- In the order of latency, whoever takes less than all faster ones is on the front; of those alike
    -- in both none beats another.
    select *, min(joules_per_output_token) over (
                  partition by model, weights, model_commit, reality, protocol_id, work
                  order by e2e_s, joules_per_output_token
                  groups between unbounded preceding and 1 preceding) as least_of_faster
      from told
)
select model, weights, model_commit, reality, protocol, protocol_id, work, lengths, input_tokens,
       output_tokens, e2e_s, joules_per_output_token, output_tokens_per_s, board, board_count,
       backend, backend_version, dtype, quantization, tensor_parallel, threads, options, mode,
       speculation, speculative_tokens, draft, power_limit_w, batch_size, arrival, replicates
  from walked
 where least_of_faster is null or joules_per_output_token < least_of_faster
 order by model, weights, model_commit, reality, protocol, protocol_id, work, e2e_s;
