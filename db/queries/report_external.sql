-- Rows that others measured, as they were imported, of one source or of all: never compared unasked
select row_id, source, origin_reality, model, weights, board, gpus, tensor_parallel,
       expert_parallel, data_parallel, dtype, quantization, backend, backend_version, batch_size,
       mean_batch, input_tokens, output_tokens, mean_output_tokens, requests, energy_j,
       energy_j_per_output_token, energy_j_per_output_token_half_width, energy_j_per_request,
       energy_method, duration_s, ttft_ms, itl_ms, workload, reasons, protocol
  from evidence
 where source is not null
   and coalesce(current_setting('campaign.source', true), '') in ('', source)
 order by source, row_id;
