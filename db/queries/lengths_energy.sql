-- Joules per request on the grid of input and output lengths, with the slope of each per token
-- The slope of the input is taken at the longest output, that of the output at the shortest input.
select model, weights, backend, backend_version, board, board_count, quantization, options, reality,
       protocol, batch_size, arrival, count(*)::int as lengths, sum(replicates)::int as measurements,
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
  from (select *, max(output_tokens) over one as longest_output,
               min(input_tokens) over one as shortest_input
          from points
         where lengths = 'fixed' and decoding = 'greedy' and joules_per_output_token > 0
        window one as (partition by engine_id, protocol_id, backend_version, reality, batch_size,
                                    arrival)) p
 group by engine_id, protocol_id, model, weights, backend, backend_version, board, board_count,
          quantization, options, reality, protocol, batch_size, arrival
having count(*) > 2
 order by model, backend, board, reality, protocol, batch_size;
