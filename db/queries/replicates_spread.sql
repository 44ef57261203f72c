-- Spread between replicates of a point beside its interval within one session, both relative
-- Where replicates share a session, what lies between sessions is not known.
-- One number leads the grouping, as it decides in one look what the others decide together.
select *
  from configurations
  join (select min(task_id) as task_id, backend_version, reality, count(*)::int as replicates,
               count(distinct session_id)::int as sessions,
               avg(joules_per_output_token) as joules_per_output_token,
               case when count(*) = count(distinct session_id)
                    then stddev_samp(joules_per_output_token) / nullif(avg(joules_per_output_token), 0)
                    end as joules_relative_sd_between,
               avg(joules_per_output_token_within_session_half_width / joules_per_output_token)
                   as joules_relative_half_width_within,
               avg(output_tokens_per_s) as output_tokens_per_s,
               case when count(*) = count(distinct session_id)
                    then stddev_samp(output_tokens_per_s) / nullif(avg(output_tokens_per_s), 0)
                    end as output_tokens_per_s_relative_sd_between
          from measurements
         group by hashtextextended(workload, engine_id), engine_id, protocol_id, workload,
                  backend_version, reality
        having count(*) > 1) spread using (task_id)
 order by model, backend, board, reality, protocol, input_tokens, output_tokens, batch_size,
          workload;
