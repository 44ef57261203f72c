-- Tokens per second and latencies (TTFT, ITL, end to end, in seconds) by model, engine and workload
select *
  from configurations
  join (select min(task_id) as task_id, backend_version, reality,
               avg(output_tokens_per_s) as output_tokens_per_s, avg(running_mean) as running_mean,
               avg(ttft_s) as ttft_s, avg(itl_s) as itl_s, avg(e2e_s) as e2e_s,
               count(*)::int as replicates
          from measurements
         group by engine_id, protocol_id, workload, backend_version, reality) means using (task_id)
 order by model, backend, board, reality, protocol, input_tokens, output_tokens, batch_size,
          workload;
