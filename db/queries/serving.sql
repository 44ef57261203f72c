-- Under load: request rates, TTFT, TPOT and end-to-end percentiles in seconds, joules per request
select model, weights, backend, backend_version, dtype, quantization, tensor_parallel, speculation,
       options, power_limit_w, board, board_count, reality, protocol, workload, replicate,
       requests, straddling, running_mean, requests_per_s, goodput_rps, output_tokens_per_s,
       ttft_p50_s, ttft_p99_s, tpot_p50_s, tpot_p99_s, e2e_p50_s, e2e_p99_s,
       joules_per_request, joules_per_output_token, energy_method,
       estimated_joules_per_output_token, estimate_method, marks, reasons, task_key
  from serving
 order by model, backend, board, reality, protocol, arrival, input_tokens, output_tokens,
          batch_size, rate_rps, workload, replicate;
