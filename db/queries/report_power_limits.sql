-- GPUs of accepted rows: product, enforced power limit, power field that was read, temperatures
with by_gpu as (
    select w.session_id, g.gpu_uuid, g.name, g.power_limit_w, g.power_field, count(*) as windows,
           min(g.temperature_c) as temperature_min_c, max(g.temperature_c) as temperature_max_c,
           max(g.max_w) as max_w
      -- Both in the order of the windows, by the index windows_repeats_idx, which asks for ids over 0:
      -- merging a million takes less than hashing them.
      from (select * from gpu_energies where not sibling order by window_id) g
      join windows w on w.id = g.window_id
     where w.kind = 'repeat' and w.id > 0
       -- The other way round the list of the accepted would be as long as the table.
       and w.attempt_id not in (select m.attempt_id from summaries m where not m.accepted)
       and ((select coalesce(current_setting('campaign.name', true), '') = '')
            or w.attempt_id in (select m.attempt_id
                                  from summaries m
                                  join campaign_tasks k using (task_id)
                                  join campaigns c on c.id = k.campaign_id
                                 where c.name = current_setting('campaign.name', true)))
     group by w.session_id, g.gpu_uuid, g.name, g.power_limit_w, g.power_field
)
select e.board, s.reality, g.name as gpu, g.power_limit_w, g.power_field,
       count(distinct g.gpu_uuid)::int as gpus, sum(g.windows)::bigint as windows,
       min(g.temperature_min_c) as temperature_min_c, max(g.temperature_max_c) as temperature_max_c,
       max(g.max_w) as max_w
  from by_gpu g
  join sessions s on s.id = g.session_id
  join engines e on e.id = s.engine_id
 group by e.board, s.reality, g.name, g.power_limit_w, g.power_field
 order by e.board, s.reality, gpu, power_limit_w, power_field;
