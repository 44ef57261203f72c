-- Models by joules per output token within the same board, backend and work, least first
select board, board_count, backend, backend_version, quantization, options, weights, reality, protocol,
       workload, model, replicates, joules_per_output_token, output_tokens_per_s,
       rank() over (partition by alike order by joules_per_output_token)::int as place
  from (select *, md5(concat_ws('|', board, board_count, backend, 'version=' || backend_version,
                                'quantization=' || quantization, options, weights, reality,
                                protocol_id, workload)) as alike
          from points
         where speculation is null) told
 order by board, board_count, backend, reality, protocol, workload, place, model;
