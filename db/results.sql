-- Sessions: their end, and what their engine said. Windows: the rows of what was measured.

-- name: windows
-- Part of a statement that has named an attempt, or none, as closed (id): its windows, or the
-- session's, with their phases, GPUs and power traces. A session's window that is there already
-- stays as it is; an attempt's are written once, because the statement that closes it is.
given as (
    select value as it from jsonb_array_elements(%(windows)s::jsonb)
), written as (
    insert into windows (session_id, attempt_id, {windows})
    select %(session_id)s::uuid, closed.id, {windows}
      from closed, given, jsonb_populate_record(null::windows, it)
        on conflict (session_id, kind, ordinal) where attempt_id is null do nothing
 returning id, kind, ordinal
), kept as (
    select w.id, g.it
      from written w
      join given g on g.it ->> 'kind' = w.kind and (g.it ->> 'ordinal')::int = w.ordinal
), phased as (
    insert into phases (window_id, {phases})
    select kept.id, {phases} from kept, jsonb_populate_recordset(null::phases, it -> 'phases')
), metered as (
    insert into gpu_energies (window_id, {gpu_energies})
    select kept.id, {gpu_energies}
      from kept, jsonb_populate_recordset(null::gpu_energies, it -> 'gpus')
), traced as (
    insert into power_traces (window_id, {power_traces})
    select kept.id, {power_traces}
      from kept, jsonb_populate_recordset(null::power_traces, it -> 'traces')
)

-- name: write_windows
-- Windows of an attempt that is closed, or of a session.
with closed as (select %(attempt_id)s::bigint as id), /* windows */
select count(*) from written;

-- name: close_session
-- A session's end, with what its engine said last.
update sessions
   set ended_at = now(), outcome = %(outcome)s, error = %(error)s, stderr_tail = %(stderr_tail)s
 where id = %(id)s and outcome is null;

-- name: last_words
-- What is known of a session that could not say so itself.
update sessions
   set error = coalesce(error, %(error)s), stderr_tail = coalesce(stderr_tail, %(stderr_tail)s)
 where id = %(id)s;

-- name: describe_session
-- What the engine resolved, once it is loaded.
update sessions
   set resolved = %(resolved)s, software = %(software)s, engine_pid = %(engine_pid)s, meter = %(meter)s
 where id = %(id)s;
