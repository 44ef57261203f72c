-- Gross joules per output token beside those net of the idle board, and the share that was idle
select *
  from configurations
  join (select min(task_id) as task_id, backend_version, reality, count(*)::int as replicates,
               avg(joules_per_output_token) as joules_per_output_token,
               avg(net_joules_per_output_token) as net_joules_per_output_token,
               avg(1 - net_joules_per_output_token / joules_per_output_token) as idle_share,
               avg(idle_empty_w) as idle_empty_w, avg(idle_resident_w) as idle_resident_w,
               avg(energy_j / duration_s) as mean_w
          from measurements
         where energy_net_j is not null and joules_per_output_token > 0
         group by engine_id, protocol_id, workload, backend_version, reality) means using (task_id)
 order by idle_share desc, model, backend, board, workload;
