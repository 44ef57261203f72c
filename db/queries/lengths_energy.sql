-- Joules per request on the grid of input and output lengths, with the slope of each per token
-- The slope of the input is taken at the longest output, that of the output at the shortest input.
-- `conditions` is what the work asks for beside its lengths.
with told as (
    select *, max(output_tokens) over one as longest_output,
           min(input_tokens) over one as shortest_input
      from (select *, substr(workload, strpos(workload, ' ') + 1) as conditions
              from points
             where lengths = 'fixed' and decoding = 'greedy' and joules_per_output_token > 0) p
    window one as (partition by engine_id, protocol_id, backend_version, reality, conditions)
)
select model, weights, model_commit, backend, backend_version, dtype, quantization, tensor_parallel,
       threads, options, mode, speculation, speculative_tokens, draft, power_limit_w, board,
       board_count, reality, protocol, protocol_id, conditions, batch_size, arrival,
       count(*)::int as lengths, sum(replicates)::int as measurements,
       regr_slope(joules_per_prompt, input_tokens)
           filter (where output_tokens = longest_output) as joules_per_further_input_token,
       regr_r2(joules_per_prompt, input_tokens)
           filter (where output_tokens = longest_output) as r2_of_input,
       regr_slope(joules_per_prompt, output_tokens)
           filter (where input_tokens = shortest_input) as joules_per_further_output_token,
       regr_r2(joules_per_prompt, output_tokens)
           filter (where input_tokens = shortest_input) as r2_of_output,
       min(joules_per_output_token) as least_joules_per_output_token,
       max(joules_per_output_token) / min(joules_per_output_token) as worst_over_best
  from told
 group by engine_id, protocol_id, backend_version, reality, conditions, model, weights, model_commit,
          backend, dtype, quantization, tensor_parallel, threads, options, mode, speculation,
          speculative_tokens, draft, power_limit_w, board, board_count, protocol, batch_size, arrival
having count(*) > 2
 order by model, backend, board, reality, protocol, batch_size, conditions;
