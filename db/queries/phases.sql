-- Joules of prefill-only, mixed and decode-only steps by phase and method, with their reasons
select model, weights, backend, dtype, quantization, speculation, board, board_count, reality,
       protocol, workload, replicate, phase, method, repeats, duration_s, energy_j,
       timing_uncertainty_j, tokens, joules_per_token, reasons, marks, task_key
  from phase_energy
 order by model, backend, board, reality, protocol, input_tokens, output_tokens, batch_size,
          workload, replicate, method, array_position('{prefill,mixed,decode}', phase);
