-- Measured joules per output token of real boards, one row per configuration over its sessions
select *
  from energy_per_output_token
 order by model, board, backend, dtype, input_tokens, output_tokens, batch_size, workload;
