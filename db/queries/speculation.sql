-- Energy and speed with speculation, and without of the same models and workloads
select model, weights, model_commit, backend, backend_version, dtype, quantization, tensor_parallel,
       threads, options, mode,
       speculation, draft, speculative_tokens, power_limit_w, board, board_count, reality, protocol,
       workload, replicate, joules_per_output_token, energy_method,
       estimated_joules_per_output_token, estimate_method, output_tokens_per_s,
       coalesce(counters ->> 'vllm:spec_decode_num_accepted_tokens',
                counters ->> 'draft_tokens_accepted')::float8
           / nullif(coalesce(counters ->> 'vllm:spec_decode_num_draft_tokens',
                             counters ->> 'draft_tokens_proposed')::float8, 0) as acceptance,
       counters, marks, task_key
  from measurements
 where (model, backend, board, workload) in (select model, backend, board, workload
                                               from configurations where speculation is not null)
 order by model, backend, board, reality, protocol, input_tokens, output_tokens, batch_size,
          workload, speculation nulls first, draft, speculative_tokens, replicate;
