-- Energy and speed with and without speculation, of models and workloads that had both
select model, weights, backend, backend_version, dtype, quantization, tensor_parallel, options, mode,
       speculation, draft, speculative_tokens, power_limit_w, board, board_count, reality, protocol,
       workload, replicate, joules_per_output_token, energy_method,
       estimated_joules_per_output_token, estimate_method, output_tokens_per_s,
       (counters ->> 'vllm:spec_decode_num_accepted_tokens')::float8
           / nullif((counters ->> 'vllm:spec_decode_num_draft_tokens')::float8, 0) as acceptance,
       counters, marks
  from measurements
 where (model, backend, board, workload) in (select model, backend, board, workload
                                               from configurations where speculation is not null)
 order by model, backend, board, reality, protocol, input_tokens, output_tokens, batch_size,
          workload, speculation nulls first, draft, speculative_tokens, replicate;
