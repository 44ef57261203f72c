-- Energy and speed by decoding (greedy, beam, sample) of the same sizes on the same engine
select model, weights, backend, backend_version, dtype, quantization, tensor_parallel, options, mode,
       speculation, power_limit_w, board, board_count, reality, protocol, input_tokens,
       output_tokens, batch_size, decoding, beams, temperature, top_p, workload, replicate,
       joules_per_prompt, joules_per_output_token, energy_method,
       estimated_joules_per_output_token, estimate_method, output_tokens_per_s, marks,
       task_key
  from measurements
 where (engine_id, protocol_id, input_tokens, output_tokens, batch_size) in
       (select engine_id, protocol_id, input_tokens, output_tokens, batch_size
          from configurations where decoding <> 'greedy')
 order by model, backend, board, reality, protocol, input_tokens, output_tokens, batch_size,
          decoding, beams, temperature, top_p, workload, replicate;
