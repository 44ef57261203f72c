-- What carbon is computed from: joules and seconds per million output tokens, by configuration
select *
  from configurations
  join (select min(task_id) as task_id, backend_version, reality, count(*)::int as replicates,
               avg(joules_per_output_token) * 1e6 as joules_per_million_output_tokens,
               avg(duration_s / output_tokens_total) * 1e6
                   as seconds_per_million_output_tokens
          from measurements
         where energy_j is not null and output_tokens_total > 0
         group by engine_id, protocol_id, workload, backend_version, reality) means using (task_id)
 order by model, backend, board, reality, protocol, input_tokens, output_tokens, batch_size,
          workload;
