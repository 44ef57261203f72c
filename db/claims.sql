-- The rows that published claims are judged on. Temporary tables, gone with the transaction.

-- name: counted
-- Own accepted measurements with joules, none of the metered ones marked as doubtful. Rows of one
-- kin have reality, weights and protocol in common, of one software what computes with which settings,
-- of one stack its number format too. revision is the model and its commit, boards the group and how
-- it is split, workload all that is asked for, and work all of it but lengths and batch. That an
-- engine computes no more together than the batch goes with the batch, not with its options.
create temporary table counted on commit drop as
select m.attempt_id, m.session_id, m.task_key, m.engine_id, m.replicate, m.reality, m.weights,
       m.protocol, concat_ws('/', m.reality, m.weights, m.protocol_id) as kin,
       set.settings, concat_ws('/', m.backend, m.backend_version, set.settings) as software,
       concat_ws('/', m.backend, m.backend_version, set.settings, m.dtype) as stack,
       m.model, concat_ws('@', m.model, m.model_commit) as revision, m.backend, m.dtype,
       m.quantization, m.tensor_parallel, m.board, m.board_count,
       concat_ws(' ', m.board_count, m.board, 'tp' || m.tensor_parallel) as boards,
       case when m.options ->> 'max_num_seqs' = m.batch_size::text
            then m.options - 'max_num_seqs' else m.options end as options,
       m.mode, m.speculation, m.speculative_tokens, m.draft, m.input_tokens, m.output_tokens,
       m.batch_size,
       coalesce(m.requests_asked, m.batch_size) as requests_asked, m.lengths, m.arrival,
       m.decoding, concat_ws(' ', m.mode, m.workload) as workload,
       concat_ws(' ', m.mode, substr(m.workload, strpos(m.workload, ' x') + 3
                                                 + length(m.batch_size::text))) as work,
       m.quantization is null and m.speculation is null and m.decoding = 'greedy'
           and m.prefix_tokens = 0 as plain,
       m.joules_per_prompt, m.joules_per_output_token, m.e2e_s,
       m.joules_per_output_token_within_session_half_width / m.joules_per_output_token
           as relative_half_width,
       m.energy_j, m.cpu_package_j + m.cpu_dram_j as host_j
  from measurements m,
       lateral (select concat_ws(' ', 'limit=' || m.power_limit_w, 'threads=' || m.threads)
                           as settings) set
 where m.energy_j is not null and m.joules_per_output_token > 0 and m.requests > 0
   and (m.reality = 'simulated' or not m.marks && %(doubtful)s::text[])
   and (%(campaign_id)s::int is null
        or exists (select from campaign_tasks c
                    where c.task_id = m.task_id and c.campaign_id = %(campaign_id)s));

-- name: phased
-- Joules of prefill and decode by measurement: by the engine's steps where no step mixed them,
-- else against a prefill-only run.
create temporary table phased on commit drop as
select distinct on (attempt_id) *
  from (select w.attempt_id, p.method,
               sum(p.energy_j) filter (where p.phase = 'prefill') as prefill_j,
               sum(p.energy_j) filter (where p.phase = 'decode') as decode_j,
               coalesce(sum(p.duration_s) filter (where p.phase = 'mixed'), 0) as mixed_s,
               bool_and(p.energy_j is not null) filter (where p.phase <> 'mixed') as complete
          from windows w join phases p on p.window_id = w.id
         where w.attempt_id in (select attempt_id from counted)
         group by w.attempt_id, p.method) by_method
 where complete and mixed_s = 0 and prefill_j is not null
 order by attempt_id, method desc;

-- name: engines
-- The engines of those rows, for telling their shapes.
select e.id, e.model, e.architecture
  from engines e
 where e.id in (select engine_id from counted)
 order by e.id;

-- name: shapes
-- What follows from an engine's architecture; parameters in units of one.
create temporary table shapes (
    engine_id int primary key, parameters float8 not null, layers int not null, hidden int not null,
    heads int not null, kv_heads int not null
) on commit drop;

-- name: shape
-- The shape of one engine.
insert into shapes
values (%(engine_id)s, %(parameters)s, %(layers)s, %(hidden)s, %(heads)s, %(kv_heads)s);

-- name: read
-- Every counted row, to look up where a figure comes from.
select attempt_id, session_id::text as session, task_key, replicate, reality, weights, protocol, kin,
       relative_half_width
  from counted;

-- name: left_out
-- Accepted measurements that are not counted: without joules, or marked as doubtful.
select count(*)::int
  from attempts a
 where a.outcome = 'ok' and a.voided_at is null
   and not exists (select from counted c where c.attempt_id = a.id)
   and (%(campaign_id)s::int is null
        or exists (select from campaign_tasks c
                    where c.task_id = a.task_id and c.campaign_id = %(campaign_id)s));
