-- Joules per output token by batch size and engine; `energy` says what the joules are
select *
  from configurations
  join (select min(task_id) as task_id, backend_version, reality,
               case when energy_method is not null
                    then case reality when 'real' then 'measured' else reality end
                    when estimate_method is not null then 'estimated'
                    else 'none' end as energy,
               coalesce(energy_method, estimate_method) as method,
               avg(joules_per_output_token) as joules_per_output_token,
               avg(estimated_joules_per_output_token)
                   filter (where energy_method is null) as estimated_joules_per_output_token,
               avg(output_tokens_per_s) as output_tokens_per_s,
               count(*)::int as replicates
          from measurements
         group by engine_id, protocol_id, workload, backend_version, reality, energy_method,
                  estimate_method) means using (task_id)
 order by model, backend, board, reality, protocol, input_tokens, output_tokens, batch_size,
          workload;
