-- What a campaign asked for before and after an edit, and what it still waits for.

-- name: note
-- The tasks that a campaign asks for now.
create temporary table asked_before on commit drop as
select task_id from campaign_tasks where campaign_id = %(campaign_id)s;

-- name: compare
-- How many tasks the campaign had, how many came, went, and went with a result.
with asked as (
    select task_id from campaign_tasks where campaign_id = %(campaign_id)s
), gone as (
    select task_id from asked_before except select task_id from asked
)
select (select count(*) from asked_before) as before,
       (select count(*) from (select task_id from asked
                              except select task_id from asked_before) came) as added,
       (select count(*) from gone) as dropped,
       (select count(*) from gone join tasks t on t.id = gone.task_id
         where t.state = 'done') as measured;

-- name: forget
-- The place is free for another edit of the same transaction.
drop table asked_before;

-- name: waiting
-- The tasks of an engine that a campaign could claim now.
select t.key, t.input_tokens, t.output_tokens, t.batch_size, t.workload, t.reality, t.replicate,
       t.protocol_id
  from tasks t join campaign_tasks c on c.task_id = t.id
 where c.campaign_id = %(campaign_id)s and t.engine_id = %(engine_id)s and t.state = 'pending';
