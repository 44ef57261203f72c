-- What is measured already, for comparing new points with. Nothing here writes.

-- name: engines
-- Engines of some backends that have a measured task.
select e.*
  from engines e
 where e.backend = any(%(backends)s)
   and exists (select from tasks t where t.engine_id = e.id and t.state = 'done')
 order by e.id;

-- name: points
-- Measured tasks of those engines, the latest first.
select t.key, t.engine_id, t.input_tokens, t.output_tokens, t.batch_size, t.workload, t.reality,
       t.replicate, p.numbers
  from tasks t
  join engines e on e.id = t.engine_id
  join protocols p on p.id = t.protocol_id
 where e.backend = any(%(backends)s) and t.state = 'done'
 order by t.id desc
 limit %(most)s;
