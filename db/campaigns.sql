-- Enqueueing, and what became of it.

-- name: memory
-- Bytes to sort a million keys in, instead of on a disk.
set local work_mem = '256MB';

-- name: stage
-- A place for the rows of one enqueue.
create temporary table staged (
    key text, engine_id int, protocol_id int, input_tokens int, output_tokens int, batch_size int,
    workload jsonb, reality text, replicate int, ordinal int
) on commit drop;

-- name: copy
-- The fast way in.
copy staged from stdin;

-- name: enqueue
-- New tasks of the staged rows; those queued or measured before stay as they are. In the order of
-- their keys, so that two campaigns that share tasks never wait for each other.
insert into tasks (key, engine_id, protocol_id, input_tokens, output_tokens, batch_size, workload,
                   reality, replicate, ordinal)
select key, engine_id, protocol_id, input_tokens, output_tokens, batch_size, workload, reality,
       replicate, ordinal
  from staged
 order by key collate "C", ordinal
    on conflict (key) do nothing;

-- name: ask_for
-- The campaign asks for the staged tasks, and for nothing else from now on; results stay. Nobody
-- else can do so at the same time: its row is held since create_campaign.
with asked as (
    select distinct t.id from staged s join tasks t using (key)
), dropped as (
    delete from campaign_tasks c
     where c.campaign_id = %(campaign_id)s
       and not exists (select from asked where asked.id = c.task_id)
)
insert into campaign_tasks (campaign_id, task_id)
select %(campaign_id)s, a.id
  from asked a
 where not exists (select from campaign_tasks c
                    where c.campaign_id = %(campaign_id)s and c.task_id = a.id)
 order by a.id;

-- name: unstage
-- The place is free for another enqueue of the same transaction.
drop table staged;

-- name: outcome
-- The accepted measurements of a campaign's tasks, in the order people compare them.
select m.model, m.backend, m.board, m.reality, m.weights, m.protocol, m.speculation, m.workload,
       m.input_tokens, m.output_tokens, m.batch_size, m.replicate, m.repeats,
       m.output_tokens_per_s, m.running_mean, m.ttft_s, m.itl_s, m.energy_j, m.energy_method, m.joules_per_output_token,
       m.joules_per_output_token_within_session_half_width, m.energy_estimated_j,
       m.estimate_method, m.estimated_joules_per_output_token, m.marks, m.reasons, m.task_key
  from measurements m
  join tasks t on t.key = m.task_key
  join campaign_tasks c on c.task_id = t.id and c.campaign_id = %(campaign_id)s
 order by m.board, m.model, m.backend, m.speculation nulls first, m.input_tokens, m.output_tokens,
       m.batch_size, m.workload, m.replicate;

-- name: trouble
-- Tasks of a campaign that have no result and will get none unasked, with the last error's last line.
select t.state, t.reason, concat_ws(' ', g.backend, g.model, 'on', g.board) as engine, g.workload,
       (select regexp_replace(rtrim(a.error), '^.*\n', '') from attempts a
         where a.task_id = t.id and a.error is not null
         order by a.number desc limit 1) as error,
       t.key as task_key
  from campaign_tasks c
  join tasks t on t.id = c.task_id
  join configurations g on g.task_id = t.id
 where c.campaign_id = %(campaign_id)s and t.state in ('quarantined', 'excluded')
 order by t.id;

-- name: frozen_commits
-- The hub commits that a campaign asks for, of its models and their drafts: by the engines of its
-- grid, by its tasks where an older program enqueued them.
select distinct m.model, m.model_commit
  from campaigns c
 cross join lateral (
           select (g ->> 'engine_id')::int as id from jsonb_array_elements(c.grid -> 'engines') g
            union
           select t.engine_id from campaign_tasks k join tasks t on t.id = k.task_id
            where c.grid is null and k.campaign_id = c.id) known
  join engines e on e.id = known.id
 cross join lateral (values (e.model, e.weights, e.model_commit),
                            (e.draft ->> 'name', e.draft ->> 'weights', e.draft ->> 'commit')
                    ) m (model, weights, model_commit)
 where c.name = %(name)s and m.weights = 'real' and m.model_commit is not null;
