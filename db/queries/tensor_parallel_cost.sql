-- What splitting a model over more boards costs in joules and saves in time, against the fewest
with against as (
    select *, min(tensor_parallel) over one as fewest,
           first_value(joules_per_output_token) over one as joules_of_fewest,
           first_value(e2e_s) over one as e2e_s_of_fewest
      from points
     where speculation is null
    window one as (partition by model, weights, backend, backend_version, quantization, options,
                                board, reality, protocol_id, workload order by tensor_parallel
                   rows between unbounded preceding and unbounded following)
)
select model, weights, backend, backend_version, quantization, options, board, reality, protocol,
       workload, fewest, tensor_parallel, replicates, joules_per_output_token, e2e_s,
       output_tokens_per_s,
       100 * (joules_per_output_token / joules_of_fewest - 1) as energy_change_pct,
       100 * (e2e_s / nullif(e2e_s_of_fewest, 0) - 1) as latency_change_pct
  from against
 where tensor_parallel > fewest
 order by model, backend, board, reality, protocol, workload, tensor_parallel;
