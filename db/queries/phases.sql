-- Joules of prefill-only, mixed and decode-only steps by phase and method, with their reasons
select model, weights, backend, dtype, quantization, board, board_count, reality, protocol,
       input_tokens, output_tokens, batch_size, replicate, phase, method, repeats, duration_s,
       energy_j, timing_uncertainty_j, tokens, joules_per_token, reasons, marks
  from phase_energy
 order by model, backend, board, reality, protocol, input_tokens, output_tokens, batch_size,
          replicate, method, array_position('{prefill,mixed,decode}', phase);
