-- Configurations that nothing beats in both joules per output token and time per request
-- Among those of one model and workload lengths: whatever board, engine and batch.
with walked as (
    -- In the order of latency, whoever takes less than all faster ones is on the front.
    select *, min(joules_per_output_token) over (
                  partition by model, weights, reality, protocol_id, lengths, input_tokens,
                               output_tokens
                  order by e2e_s, joules_per_output_token
                  rows between unbounded preceding and 1 preceding) as least_of_faster
      from points
     where e2e_s is not null
)
select model, weights, reality, protocol, lengths, input_tokens, output_tokens, e2e_s,
       joules_per_output_token, output_tokens_per_s, board, board_count, backend, quantization,
       tensor_parallel, options, batch_size, arrival, replicates
  from walked
 where least_of_faster is null or joules_per_output_token < least_of_faster
 order by model, weights, reality, protocol, lengths, input_tokens, output_tokens, e2e_s;
