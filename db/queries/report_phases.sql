-- Prefill and decode of each configuration: joules, and joules per token, means over replicates
-- A mean is over the replicates that know this phase. told_apart_j sums those that know every phase
-- that they have: only its parts make up a whole.
select engine_id, protocol_id, workload, backend_version, reality, energy_method, estimate_method, phase,
       method, count(*)::int as replicates, avg(s.energy_j) as energy_j,
       avg(s.energy_j / s.tokens) as joules_per_token,
       sum(s.energy_j) filter (where lacking is null) as told_apart_j
  from phase_summaries s
  join measurements m using (attempt_id)
  left join (select attempt_id, method, true as lacking
               from phase_summaries
              where energy_j is null
              group by attempt_id, method) partly using (attempt_id, method)
 where s.energy_j is not null
   and ((select coalesce(current_setting('campaign.name', true), '') = '')
        or attempt_id in (select a.id
                            from campaigns c
                            join campaign_tasks k on k.campaign_id = c.id
                            join attempts a on a.task_id = k.task_id
                           where c.name = current_setting('campaign.name', true)))
 group by engine_id, protocol_id, workload, backend_version, reality, energy_method, estimate_method,
          phase, method
 order by engine_id, protocol_id, workload, backend_version, reality, energy_method, estimate_method,
          phase, method;
