-- Sessions: their end, and what their engine said.

-- name: close_session
-- A session's end, with what its engine said last.
update sessions
   set ended_at = now(), outcome = %(outcome)s, error = %(error)s, stderr_tail = %(stderr_tail)s
 where id = %(id)s and outcome is null;

-- name: describe_session
-- What the engine resolved, once it is loaded.
update sessions
   set resolved = %(resolved)s, software = %(software)s, engine_pid = %(engine_pid)s, meter = %(meter)s
 where id = %(id)s;
