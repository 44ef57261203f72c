-- Engines of one identity that resolved, or were built, differently: which field, with which values
with fields as (
    select s.engine_id, s.id as session_id, 'resolved' as part, f.key as field, f.value::text
      from sessions s, jsonb_each(s.resolved) f
     union all
    select s.engine_id, s.id, 'software', f.key, f.value::text
      from sessions s, jsonb_each(s.software) f
), loaded as (
    select engine_id, count(*) as sessions
      from sessions
     where resolved <> '{}' or software <> '{}'
     group by engine_id
)
select e.backend, e.model, e.board, f.part, f.field,
       array_agg(distinct f.value order by f.value) as values,
       count(distinct f.session_id)::int as sessions_with_it, l.sessions::int as sessions,
       e.digest as engine_digest
  from fields f
  join loaded l using (engine_id)
  join engines e on e.id = f.engine_id
 group by e.id, e.backend, e.model, e.board, f.part, f.field, l.sessions, e.digest
having count(distinct f.value) > 1 or count(distinct f.session_id) < l.sessions
 order by e.backend, e.model, e.board, f.part, f.field;
