-- What a report draws: one row per configuration, its mean over replicates and what they spread
-- Words are gathered first and told apart after: distinct would sort all rows by them. One number
-- leads the grouping, and one the order, as it decides in one look what the others decide together.
select configurations.*, backend_version, reality, energy_method, estimate_method, replicates, sessions,
       joules_per_output_token, joules_per_output_token_sd,
       joules_per_output_token_within_session_half_width, joules_relative_half_width_within,
       sensor_accuracy, net_joules_per_output_token, estimated_joules_per_output_token, joules_per_prompt,
       output_tokens_per_s, ttft_s, itl_s, e2e_s, mean_w, idle_resident_w, windows, marks, reasons
  from configurations
  join (select task_id, backend_version, reality, energy_method, estimate_method, replicates, sessions,
               joules_per_output_token, joules_per_output_token_sd,
               joules_per_output_token_within_session_half_width,
               joules_relative_half_width_within, sensor_accuracy,
               net_joules_per_output_token, estimated_joules_per_output_token, joules_per_prompt,
               output_tokens_per_s, ttft_s, itl_s, e2e_s, mean_w, idle_resident_w, windows,
               case when marked is null then ''
                    else (select string_agg(distinct m, E'\n')
                            from unnest(marked || case when unmarked then '{""}'::text[] end) m) end
                   as marks,
               case when weak is null then ''
                    else (select string_agg(distinct r, E'\n')
                            from unnest(weak || case when sound then '{""}'::text[] end) r) end
                   as reasons
          from (select min(task_id) as task_id, backend_version, reality, energy_method,
                       estimate_method, count(*)::int as replicates,
                       count(distinct session_id)::int as sessions,
                       avg(joules_per_output_token) as joules_per_output_token,
                       stddev_samp(joules_per_output_token) as joules_per_output_token_sd,
                       case when bool_and(joules_per_output_token_within_session_half_width
                                          is not null)
                            then sqrt(sum(joules_per_output_token_within_session_half_width ^ 2))
                                 / count(*) end
                           as joules_per_output_token_within_session_half_width,
                       avg(joules_per_output_token_within_session_half_width
                           / joules_per_output_token) as joules_relative_half_width_within,
                       max(sensor_accuracy) as sensor_accuracy,
                       avg(net_joules_per_output_token) as net_joules_per_output_token,
                       avg(estimated_joules_per_output_token) as estimated_joules_per_output_token,
                       avg(joules_per_prompt) as joules_per_prompt,
                       avg(output_tokens_per_s) as output_tokens_per_s,
                       avg(ttft_s) as ttft_s, avg(itl_s) as itl_s, avg(e2e_s) as e2e_s,
                       avg(energy_j / duration_s) as mean_w,
                       avg(idle_resident_w) as idle_resident_w, sum(repeats)::int as windows,
                       array_agg(array_to_string(marks, E'\n')) filter (where marks <> '{}')
                           as marked,
                       bool_or(marks = '{}') as unmarked,
                       array_agg(array_to_string(reasons, E'\n')) filter (where reasons <> '{}')
                           as weak,
                       bool_or(reasons = '{}') as sound
                  from measurements
                 where (select coalesce(current_setting('campaign.name', true), '') = '')
                    or task_id in (select k.task_id
                                     from campaign_tasks k
                                     join campaigns c on c.id = k.campaign_id
                                    where c.name = current_setting('campaign.name', true))
                 group by hashtextextended(workload, engine_id), engine_id, protocol_id, workload,
                          backend_version, reality, energy_method, estimate_method) gathered) means using (task_id)
  join (select id as engine_id,
               rank() over (order by model, weights, board, backend) as place
          from engines) ranked using (engine_id)
 order by place, input_tokens, output_tokens, batch_size, workload, task_id;
