-- Prefill and decode of each configuration: joules, and joules per token, means over replicates
select engine_id, protocol_id, workload, backend_version, reality, phase, method,
       count(*)::int as replicates, avg(s.energy_j) as energy_j,
       avg(s.energy_j / s.tokens) as joules_per_token
  from phase_summaries s join measurements m using (attempt_id)
 where s.energy_j is not null
   and ((select coalesce(current_setting('campaign.name', true), '') = '')
        or attempt_id in (select a.id
                            from campaigns c
                            join campaign_tasks k on k.campaign_id = c.id
                            join attempts a on a.task_id = k.task_id
                           where c.name = current_setting('campaign.name', true)))
 group by engine_id, protocol_id, workload, backend_version, reality, phase, method
 order by engine_id, protocol_id, workload, backend_version, reality, phase, method;
