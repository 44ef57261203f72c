-- Models by joules per output token within the same board, backend and work, least first
select board, board_count, backend, backend_version, quantization, options, weights, reality, protocol,
       workload, model, replicates, joules_per_output_token, output_tokens_per_s,
       rank() over (partition by board, board_count, backend, backend_version, quantization, options,
                                 weights, reality, protocol_id, workload
                        order by joules_per_output_token)::int as place
  from points
 where speculation is null
 order by board, board_count, backend, reality, protocol, workload, place, model;
