-- The hundred attempts that took longest from claim to close, with what came of them
select e.backend, e.model, e.board, e.board_count, t.input_tokens, t.output_tokens, t.batch_size,
       a.number as attempt, a.outcome, a.kind,
       extract(epoch from coalesce(a.closed_at, now()) - a.opened_at) as took_s, a.warmup_batches,
       s.host, t.key as task_key
  from attempts a
  join tasks t on t.id = a.task_id
  join engines e on e.id = t.engine_id
  join sessions s on s.id = a.session_id
 order by took_s desc, a.id
 limit 100;
