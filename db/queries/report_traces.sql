-- Power samples of one window a board: the newest repeat of its largest batch that kept them
-- Seven windows at most, real ones first.
with found as (
    select distinct on (e.board, w.reality) w.id, e.board, w.reality
      from windows w
      join attempts a on a.id = w.attempt_id
      join tasks t on t.id = a.task_id
      join engines e on e.id = t.engine_id
     where w.kind = 'repeat' and a.outcome = 'ok' and a.voided_at is null
       and exists (select from power_traces p where p.window_id = w.id)
       and ((select coalesce(current_setting('campaign.name', true), '') = '')
            or t.id in (select k.task_id
                          from campaign_tasks k join campaigns c on c.id = k.campaign_id
                         where c.name = current_setting('campaign.name', true)))
     order by e.board, w.reality, t.batch_size desc, w.started_at desc, w.id
), kept as (
    select id from found order by reality, board limit 7
)
select g.model, g.weights, g.board, g.backend, g.workload, w.reality, w.ordinal as repeat,
       w.attempt_id, w.duration_s, w.energy_j, p.gpu_uuid, x.gpu_index, x.power_limit_w,
       p.offsets_s, p.watts
  from kept
  join windows w using (id)
  join attempts a on a.id = w.attempt_id
  join configurations g on g.task_id = a.task_id
  join power_traces p on p.window_id = w.id
  left join gpu_energies x on x.window_id = w.id and x.gpu_uuid = p.gpu_uuid
 order by g.board, w.reality, x.gpu_index, p.gpu_uuid;
