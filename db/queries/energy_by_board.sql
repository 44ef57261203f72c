-- Joules per output token by board, relative to the board that takes least for the same work
select model, weights, backend, backend_version, quantization, options, reality, protocol, workload,
       board, board_count, replicates, joules_per_output_token, output_tokens_per_s,
       joules_per_output_token / min(joules_per_output_token) over (
           partition by model, weights, backend, quantization, options, reality, protocol_id, workload
       ) as over_the_least
  from points
 where speculation is null
 order by model, backend, reality, protocol, workload, over_the_least, board, board_count;
