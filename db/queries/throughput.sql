-- Tokens per second and latencies (TTFT, ITL, end to end, in seconds) by model, engine and workload
select model, weights, model_commit, backend, backend_version, dtype, quantization,
       tensor_parallel, threads, options, board, board_count, reality, protocol, input_tokens,
       output_tokens, batch_size,
       avg(output_tokens_per_s) as output_tokens_per_s,
       avg(ttft_s) as ttft_s, avg(itl_s) as itl_s, avg(e2e_s) as e2e_s,
       count(*)::int as replicates
  from measurements
 group by engine_id, protocol_id, model, weights, model_commit, backend, backend_version, dtype,
          quantization, tensor_parallel, threads, options, board, board_count, reality, protocol,
          input_tokens, output_tokens, batch_size
 order by model, backend, board, reality, protocol, input_tokens, output_tokens, batch_size;
