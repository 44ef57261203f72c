-- What people ask. Made anew at every upgrade; the first line of each says its purpose.

-- name: drop
-- The old ones go first, so that columns may change. Views that people built on them are not ours
-- to drop: they stop the upgrade.
drop view if exists points, evidence, serving, phase_energy, energy_per_output_token, energy_per_prompt,
    energy_wh, comparable, measurements, sums, phase_sums, repeats, configurations,
    workloads;

-- name: workloads
-- What every task asks of its engine, a column a field. Where a workload asks for nothing, its default
-- stands; requests_asked is NULL for one batch. The column workload says all of it in words.
create view workloads as
select t.id as task_id, t.key as task_key, t.engine_id, t.protocol_id, t.replicate, t.reality,
       concat_ws(' ', concat(t.input_tokens, '→', t.output_tokens, ' x', t.batch_size),
                 'requests=' || (t.workload ->> 'requests'),
                 'lengths=' || (t.workload ->> 'lengths'),
                 'prefix_tokens=' || (t.workload ->> 'prefix_tokens'),
                 'arrival=' || (t.workload ->> 'arrival'),
                 'rate_rps=' || (t.workload ->> 'rate_rps'),
                 'decoding=' || (t.workload ->> 'decoding'),
                 'beams=' || (t.workload ->> 'beams'),
                 'temperature=' || (t.workload ->> 'temperature'),
                 'top_p=' || (t.workload ->> 'top_p')) as workload,
       t.input_tokens, t.output_tokens, t.batch_size,
       (t.workload ->> 'requests')::int as requests_asked,
       coalesce(t.workload ->> 'lengths', 'fixed') as lengths,
       coalesce((t.workload ->> 'prefix_tokens')::int, 0) as prefix_tokens,
       coalesce(t.workload ->> 'arrival', 'static') as arrival,
       (t.workload ->> 'rate_rps')::float8 as rate_rps,
       coalesce(t.workload ->> 'decoding', 'greedy') as decoding,
       coalesce((t.workload ->> 'beams')::int, 1) as beams,
       coalesce((t.workload ->> 'temperature')::float8, 1) as temperature,
       coalesce((t.workload ->> 'top_p')::float8, 1) as top_p
  from tasks t;

-- name: configurations
-- What every task measures: its engine, protocol and workload, a column a field. Replicates differ in
-- nothing here but task_id.
create view configurations as
select w.task_id, w.engine_id, w.protocol_id, e.model, e.weights, e.model_commit, e.backend,
       e.dtype, e.quantization, e.tensor_parallel, e.threads, e.options, e.mode, e.speculation,
       e.speculative_tokens, e.draft ->> 'name' as draft, e.power_limit_w, e.board, e.board_count,
       p.name as protocol, w.workload, w.input_tokens, w.output_tokens, w.batch_size,
       w.requests_asked, w.lengths, w.prefix_tokens, w.arrival, w.rate_rps, w.decoding, w.beams,
       w.temperature, w.top_p
  from workloads w
  left join engines e on e.id = w.engine_id
  left join protocols p on p.id = w.protocol_id;

-- name: repeats
-- One row per metered repeat of an accepted result, with its joules per output token.
create view repeats as
select w.attempt_id, w.ordinal, w.session_id, w.started_at, w.duration_s, w.batches, w.requests,
       w.straddling, w.running_mean, w.input_tokens, w.output_tokens, w.ttft_s, w.itl_s, w.e2e_s,
       w.latencies, w.counters, w.reality,
       w.energy_j, w.energy_method, w.timing_uncertainty_j, w.sensor_accuracy,
       w.energy_estimated_j, w.estimate_method, w.cpu_package_j, w.cpu_dram_j, w.reasons,
       w.energy_j / nullif(w.output_tokens, 0) as joules_per_output_token,
       w.output_tokens / w.duration_s as output_tokens_per_s
  from windows w join attempts a on a.id = w.attempt_id
 where a.outcome = 'ok' and a.voided_at is null and w.kind = 'repeat';

-- name: sums
-- The repeats of every attempt, summed, accepted or not, with what was measured and by whom: what the
-- table summaries keeps a copy of. What one repeat lacks is null.
create view sums as
select s.*,
       array(select distinct r from windows w, unnest(w.reasons) r
              where w.attempt_id = s.attempt_id and w.kind = 'repeat' order by r) as reasons,
       coalesce((select jsonb_object_agg(latency, percentiles)
                   from (select latency, jsonb_object_agg(percentile, seconds) as percentiles
                           from (select l.key as latency, q.key as percentile,
                                        case when count(*) = s.repeats
                                             then avg(q.value::float8) end as seconds
                                   from windows r, jsonb_each(r.latencies) l,
                                        jsonb_each(case jsonb_typeof(l.value) when 'object'
                                                   then l.value else '{}' end) q
                                  where r.attempt_id = s.attempt_id and r.kind = 'repeat'
                                    and jsonb_typeof(q.value) = 'number'
                                  group by l.key, q.key) averaged
                          group by latency) told), '{}') as latencies,
       coalesce((select jsonb_object_agg(counter, total)
                   from (select c.key as counter,
                                case when count(*) = s.repeats then sum(c.value::float8) end as total
                           from windows r, jsonb_each(r.counters) c
                          where r.attempt_id = s.attempt_id and r.kind = 'repeat'
                            and jsonb_typeof(c.value) = 'number'
                          group by c.key) counted), '{}') as counters,
       coalesce(a.outcome = 'ok' and a.voided_at is null, false) as accepted,
       a.task_id, g.engine_id, g.protocol_id, g.workload, g.replicate,
       case when s.simulated then 'simulated' else g.reality end as reality,
       a.session_id, n.software ->> e.backend as backend_version, a.marks
  from (
       select attempt_id,
              count(*)::int as repeats,
              bool_or(reality = 'simulated') as simulated,
              min(started_at) as measured_at,
              sum(duration_s) as duration_s,
              sum(requests)::bigint as requests,
              sum(straddling)::bigint as straddling,
              case when bool_and(running_mean is not null) then avg(running_mean) end as running_mean,
              sum(input_tokens)::bigint as input_tokens_total,
              sum(output_tokens)::bigint as output_tokens_total,
              case when bool_and(ttft_s is not null)
                   then sum(ttft_s * requests) / nullif(sum(requests), 0) end as ttft_s,
              case when bool_and(itl_s is not null)
                   then sum(itl_s * requests) / nullif(sum(requests), 0) end as itl_s,
              case when bool_and(e2e_s is not null)
                   then sum(e2e_s * requests) / nullif(sum(requests), 0) end as e2e_s,
              case when bool_and(energy_j is not null) then sum(energy_j) end as energy_j,
              case when bool_and(energy_j is not null)
                   then string_agg(distinct energy_method, ', ') end as energy_method,
              case when bool_and(timing_uncertainty_j is not null)
                   then sqrt(sum(timing_uncertainty_j ^ 2)) end as timing_uncertainty_j,
              case when bool_and(sensor_accuracy is not null)
                   then sum(sensor_accuracy * energy_j) / sum(energy_j) end as sensor_accuracy,
              case when bool_and(energy_estimated_j is not null)
                   then sum(energy_estimated_j) end as energy_estimated_j,
              string_agg(distinct estimate_method, ', ') as estimate_method,
              case when bool_and(cpu_package_j is not null) then sum(cpu_package_j) end
                  as cpu_package_j,
              case when bool_and(cpu_dram_j is not null) then sum(cpu_dram_j) end as cpu_dram_j,
              case when count(*) > 1 and bool_and(energy_j is not null)
                   then sqrt((stddev_samp(energy_j / nullif(output_tokens, 0)) / sqrt(count(*))
                        * coalesce(('{12.706,4.303,3.182,2.776,2.571,2.447,2.365,2.306,2.262,2.228,'
                                    '2.201,2.179,2.160,2.145,2.131,2.120,2.110,2.101,2.093}'::float[]
                                   )[count(*) - 1],
                                   1.96 + 2.372 / (count(*) - 1) + 2.823 / (count(*) - 1) ^ 2)) ^ 2
                        + sum((coalesce(timing_uncertainty_j, 0) / nullif(output_tokens, 0)) ^ 2)
                          / count(*) ^ 2) end
                  as half_width_j
         from windows
        where kind = 'repeat'
        group by attempt_id
       ) s
  join attempts a on a.id = s.attempt_id
  join workloads g on g.task_id = a.task_id
  join engines e on e.id = g.engine_id
  join sessions n on n.id = a.session_id;

-- name: phase_sums
-- The phases of every attempt, summed over its repeats, accepted or not: what the table
-- phase_summaries keeps a copy of. What one repeat lacks is null.
create view phase_sums as
select w.attempt_id, p.phase, p.method, count(*)::int as repeats,
       case when bool_and(p.duration_s is not null) then sum(p.duration_s) end as duration_s,
       case when bool_and(p.energy_j is not null) then sum(p.energy_j) end as energy_j,
       -- The repeats share one prefill run; by steps their edges are events of their own.
       case when not bool_and(p.energy_j is not null and p.timing_uncertainty_j is not null)
            then null
            when p.method = 'prefill_run' then sum(p.timing_uncertainty_j)
            else sqrt(sum(p.timing_uncertainty_j ^ 2)) end as timing_uncertainty_j,
       case when bool_and(p.tokens is not null) then sum(p.tokens)::bigint end as tokens,
       array(select distinct r
               from string_to_table(string_agg(array_to_string(p.reasons, ','), ',')
                                        filter (where p.reasons <> '{}'), ',') r
              order by r) as reasons
  from phases p join windows w on w.id = p.window_id
 where w.attempt_id is not null
 group by w.attempt_id, p.phase, p.method;

-- name: measurements
-- Every accepted row, with reality, weights, method and reasons; nothing is filtered here. The
-- half-width (95 percent, within one session) holds the timing of the windows and Student's spread
-- over the repeats; neither the accuracy of the sensors, which is sensor_accuracy, nor what differs
-- between sessions. Net energy is gross energy less the power of the idle board with the model
-- resident, before the first task and after the last, times the duration. A row that was metered
-- through a stand-in is simulated, whatever was asked for. Over the repeats, counters are summed and
-- percentiles of latencies averaged; what one repeat lacks is null. power_limit_w is what was asked
-- for, enforced_power_limit_w what the boards had in the repeats. Every table beside summaries is
-- joined from its left by its key, so that a question that asks for nothing of it never reads it.
create view measurements as
select w.task_key, m.task_id, m.engine_id, m.protocol_id, e.model, e.weights, e.model_commit,
       e.backend, e.dtype, e.quantization, e.tensor_parallel, e.threads, e.options, e.mode,
       e.speculation, e.speculative_tokens, e.draft ->> 'name' as draft, e.power_limit_w, e.board,
       e.board_count, p.name as protocol, m.workload, w.input_tokens, w.output_tokens, w.batch_size,
       w.requests_asked, w.lengths, w.prefix_tokens, w.arrival, w.rate_rps, w.decoding, w.beams,
       w.temperature, w.top_p, m.backend_version, m.replicate, m.reality,
       m.repeats, a.warmup_batches, m.measured_at, m.duration_s, m.requests, m.straddling,
       m.running_mean, m.input_tokens_total, m.output_tokens_total,
       m.output_tokens_total / m.duration_s as output_tokens_per_s,
       m.ttft_s, m.itl_s, m.e2e_s,
       m.latencies, m.counters,
       m.energy_j, m.energy_method, m.timing_uncertainty_j, m.sensor_accuracy,
       m.energy_j / nullif(m.output_tokens_total, 0) as joules_per_output_token,
       m.half_width_j as joules_per_output_token_within_session_half_width,
       m.energy_j / nullif(m.requests, 0) as joules_per_prompt,
       m.energy_j / 3600 as energy_wh,
       i.idle_empty_w, i.idle_resident_w,
       m.energy_j - i.idle_resident_w * m.duration_s as energy_net_j,
       (m.energy_j - i.idle_resident_w * m.duration_s) / nullif(m.output_tokens_total, 0)
           as net_joules_per_output_token,
       m.energy_estimated_j, m.estimate_method,
       m.energy_estimated_j / nullif(m.output_tokens_total, 0)
           as estimated_joules_per_output_token,
       m.cpu_package_j, m.cpu_dram_j,
       (select max(g.power_limit_w)
          from windows w join gpu_energies g on g.window_id = w.id
         where w.attempt_id = m.attempt_id and w.kind = 'repeat' and not g.sibling)
           as enforced_power_limit_w,
       m.marks,
       m.reasons,
       array(select c.name from campaign_tasks k join campaigns c on c.id = k.campaign_id
              where k.task_id = m.task_id order by c.name) as campaigns,
       m.session_id, m.attempt_id
  from summaries m
  left join attempts a on a.id = m.attempt_id
  left join engines e on e.id = m.engine_id
  left join protocols p on p.id = m.protocol_id
  left join workloads w on w.task_id = m.task_id
  left join (
       select session_id,
              sum(energy_j) filter (where kind = 'idle_empty')
                  / sum(duration_s) filter (where kind = 'idle_empty') as idle_empty_w,
              sum(energy_j) filter (where kind <> 'idle_empty')
                  / sum(duration_s) filter (where kind <> 'idle_empty') as idle_resident_w
         from windows
        where attempt_id is null and kind in ('idle_empty', 'idle_resident', 'idle_end')
          and energy_j is not null
        group by session_id
       ) i on i.session_id = m.session_id
 where m.accepted;

-- name: phase_energy
-- Joules of prefill-only, mixed and decode-only steps: a row per accepted measurement, phase and
-- method, NULL with reasons where a phase could not be told apart. Joules per token are per prompt
-- token in prefill and per generated token after each request's first in decode.
create view phase_energy as
select m.task_key, m.task_id, m.engine_id, m.protocol_id, m.model, m.weights, m.model_commit,
       m.backend, m.dtype, m.quantization, m.tensor_parallel, m.threads, m.options, m.mode,
       m.speculation, m.speculative_tokens, m.draft, m.power_limit_w, m.board, m.board_count,
       m.protocol, m.workload, m.input_tokens, m.output_tokens, m.batch_size, m.requests_asked,
       m.lengths, m.prefix_tokens, m.arrival, m.rate_rps, m.decoding, m.beams, m.temperature,
       m.top_p, m.backend_version, m.replicate, m.reality, s.phase, s.method, s.repeats,
       s.duration_s, s.energy_j, m.energy_method, s.timing_uncertainty_j, m.sensor_accuracy, s.tokens,
       s.energy_j / s.tokens as joules_per_token,
       s.reasons, m.marks, m.session_id, m.attempt_id
  from phase_summaries s
  join measurements m on m.attempt_id = s.attempt_id;

-- name: serving
-- Accepted rows of requests that arrived while others were computed: rates, percentiles of latencies
-- (seconds; means of what each repeat found), joules. Requests that straddle an edge of a window are
-- counted apart. Goodput is the rate of requests that met their deadlines, where the run had any.
create view serving as
select m.task_key, g.*, m.backend_version, m.replicate, m.reality, m.repeats, m.duration_s,
       m.requests, m.straddling, m.running_mean,
       m.requests / m.duration_s as requests_per_s,
       (m.counters ->> 'good_requests')::float8 / m.duration_s as goodput_rps,
       m.output_tokens_per_s,
       (m.latencies #>> '{ttft_s,p50}')::float8 as ttft_p50_s,
       (m.latencies #>> '{ttft_s,p90}')::float8 as ttft_p90_s,
       (m.latencies #>> '{ttft_s,p95}')::float8 as ttft_p95_s,
       (m.latencies #>> '{ttft_s,p99}')::float8 as ttft_p99_s,
       (m.latencies #>> '{tpot_s,p50}')::float8 as tpot_p50_s,
       (m.latencies #>> '{tpot_s,p90}')::float8 as tpot_p90_s,
       (m.latencies #>> '{tpot_s,p95}')::float8 as tpot_p95_s,
       (m.latencies #>> '{tpot_s,p99}')::float8 as tpot_p99_s,
       (m.latencies #>> '{itl_s,p50}')::float8 as itl_p50_s,
       (m.latencies #>> '{itl_s,p90}')::float8 as itl_p90_s,
       (m.latencies #>> '{itl_s,p95}')::float8 as itl_p95_s,
       (m.latencies #>> '{itl_s,p99}')::float8 as itl_p99_s,
       (m.latencies #>> '{e2e_s,p50}')::float8 as e2e_p50_s,
       (m.latencies #>> '{e2e_s,p90}')::float8 as e2e_p90_s,
       (m.latencies #>> '{e2e_s,p95}')::float8 as e2e_p95_s,
       (m.latencies #>> '{e2e_s,p99}')::float8 as e2e_p99_s,
       m.energy_j, m.energy_method, m.timing_uncertainty_j,
       m.joules_per_prompt as joules_per_request,
       m.joules_per_output_token, m.energy_estimated_j, m.estimate_method,
       m.estimated_joules_per_output_token, m.counters, m.marks, m.reasons, m.session_id,
       m.attempt_id
  from measurements m join configurations g on g.task_id = m.task_id
 where g.arrival in ('closed', 'constant', 'poisson', 'trace');

-- name: comparable
-- What comparisons are made from: real boards, measured energy, one kind of weights. Real weights
-- unless the session asks otherwise: set campaign.weights = 'random'.
create view comparable as
select * from measurements
 where reality = 'real' and energy_j is not null
   and weights = coalesce(nullif(current_setting('campaign.weights', true), ''), 'real');

-- name: energy_per_output_token
-- Joules per output token, one row per configuration: the mean over its replicates, of which task_id
-- names one. Here and in the next two a number leads the grouping, as it decides in one look what the
-- others decide together.
create view energy_per_output_token as
select *
  from configurations
  join (select min(task_id) as task_id, backend_version, count(*)::int as replicates,
               count(distinct session_id)::int as sessions,
               avg(joules_per_output_token) as joules_per_output_token,
               case when count(*) = count(distinct session_id)
                    then stddev_samp(joules_per_output_token) end as between_sessions_sd
          from comparable
         group by hashtextextended(workload, engine_id), engine_id, protocol_id, workload,
                  backend_version) means using (task_id);

-- name: energy_per_prompt
-- Joules per prompt, one row per configuration: the mean over its replicates, of which task_id names
-- one.
create view energy_per_prompt as
select *
  from configurations
  join (select min(task_id) as task_id, backend_version, count(*)::int as replicates,
               count(distinct session_id)::int as sessions,
               avg(joules_per_prompt) as joules_per_prompt,
               case when count(*) = count(distinct session_id)
                    then stddev_samp(joules_per_prompt) end as between_sessions_sd
          from comparable
         group by hashtextextended(workload, engine_id), engine_id, protocol_id, workload,
                  backend_version) means using (task_id);

-- name: energy_wh
-- Watt-hours per thousand prompts and per million output tokens, one row per configuration: the mean
-- over its replicates, of which task_id names one.
create view energy_wh as
select *
  from configurations
  join (select min(task_id) as task_id, backend_version, count(*)::int as replicates,
               count(distinct session_id)::int as sessions,
               avg(joules_per_prompt) / 3.6 as wh_per_thousand_prompts,
               avg(joules_per_output_token) / 0.0036 as wh_per_million_output_tokens
          from comparable
         group by hashtextextended(workload, engine_id), engine_id, protocol_id, workload,
                  backend_version) means using (task_id);

-- name: evidence
-- Own measurements and imported rows side by side, in the columns of import and export. Imported
-- ones are external whatever they were called there, which is origin_reality; their source is never
-- null. Filter by reality before comparing. Own rows have their config in place of parameters; the
-- power limit that was asked for stands beside the one that was read. Where protocols of other numbers
-- have one name, a part of their digest is in it.
create view evidence as
select m.attempt_id as row_id, m.model, m.model_commit, null::text as architecture,
       null::float8 as total_params_b, null::float8 as active_params_b, e.architecture as config,
       null::text as catalogue_model, m.board, m.board_count as gpus, m.tensor_parallel,
       case when e.options ->> 'enable_expert_parallel' = 'true' then m.tensor_parallel else 1 end
           as expert_parallel,
       1 as data_parallel, m.dtype, m.quantization, m.backend,
       nullif(m.options, '{}')::text as options, m.mode, m.threads, m.speculation,
       m.speculative_tokens, m.draft, m.power_limit_w as declared_power_limit_w, m.batch_size,
       nullif(m.running_mean, 0) as mean_batch,
       case when m.lengths = 'fixed' then m.input_tokens
            else nullif(m.input_tokens_total, 0)::float8 / nullif(m.requests, 0) end as input_tokens,
       m.output_tokens::float8 as output_tokens,
       nullif(m.output_tokens_total, 0)::float8 / nullif(m.requests, 0) as mean_output_tokens,
       nullif(m.requests, 0) as requests, m.duration_s, m.energy_j,
       m.joules_per_output_token as energy_j_per_output_token,
       m.joules_per_prompt as energy_j_per_request,
       m.energy_j / m.duration_s as power_w,
       nullif(m.ttft_s, 0) * 1000 as ttft_ms, nullif(m.itl_s, 0) * 1000 as itl_ms,
       m.workload, m.weights, m.reality, m.reality as origin_reality, null::text as source,
       null::text as origin_source, m.campaigns, array_to_string(m.campaigns, ';') as campaign,
       nullif(array_to_string(m.reasons || m.marks, ';'), '') as reasons, m.energy_method,
       nullif(m.joules_per_output_token_within_session_half_width, 0)
           as energy_j_per_output_token_half_width,
       m.energy_estimated_j, m.estimate_method, m.backend_version,
       (select string_agg(v.key || ' ' || v.value, '; ' order by v.key)
          from jsonb_each_text(s.software) v
         where v.key not in ('kernel', 'nvidia_driver', m.backend)) as software,
       s.software ->> 'nvidia_driver' as driver,
       m.enforced_power_limit_w as power_limit_w,
       p.name as protocol, m.repeats, m.warmup_batches,
       to_char(m.measured_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as measured_at,
       m.task_key, m.replicate,
       encode(sha256(convert_to(m.session_id::text, 'UTF8')), 'hex') as session,
       (select nullif(string_agg(encode(sha256(convert_to(u, 'UTF8')), 'hex'), ';' order by n), '')
          from unnest(s.gpu_uuids) with ordinality as given (u, n)) as gpu_ids
  from measurements m
  join engines e on e.id = m.engine_id
  join sessions s on s.id = m.session_id
  join (select id, case when count(*) over (partition by name) = 1 then name
                        else name || '@' || left(digest, 8) end as name
          from protocols) p on p.id = m.protocol_id
 union all
select id, model, model_commit, architecture, total_params_b, active_params_b, null,
       catalogue_model, board, gpus, tensor_parallel, expert_parallel, data_parallel, dtype,
       quantization, backend, options, mode, threads, speculation, speculative_tokens, draft,
       declared_power_limit_w, batch_size, mean_batch, input_tokens, output_tokens,
       mean_output_tokens, requests, duration_s, energy_j,
       energy_j_per_output_token, energy_j_per_request, power_w, ttft_ms, itl_ms, workload, weights,
       'external', origin_reality, source, origin_source, '{}', campaign, reasons, energy_method,
       energy_j_per_output_token_half_width, energy_estimated_j, estimate_method, backend_version,
       software, driver, power_limit_w, protocol, repeats, warmup_batches, measured_at, task_key,
       replicate, session, gpu_ids
  from external_rows;

-- name: points
-- What was measured with joules, one row per configuration, version and reality: means over its
-- replicates, of which task_id names one. Real, simulated and random rows stay apart as columns.
create view points as
select *
  from configurations
  join (select min(task_id) as task_id, backend_version, reality, count(*)::int as replicates,
               avg(joules_per_output_token) as joules_per_output_token,
               avg(joules_per_prompt) as joules_per_prompt, avg(e2e_s) as e2e_s,
               avg(output_tokens_per_s) as output_tokens_per_s,
               avg(energy_j / output_tokens_total)
                   filter (where cpu_package_j is not null and cpu_dram_j is not null)
                   as joules_per_output_token_with_host,
               avg(cpu_package_j / output_tokens_total) filter (where cpu_dram_j is not null)
                   as cpu_joules_per_output_token,
               avg(cpu_dram_j / output_tokens_total) filter (where cpu_package_j is not null)
                   as dram_joules_per_output_token
          from measurements
         where energy_j is not null and output_tokens_total > 0
         group by engine_id, protocol_id, workload, backend_version, reality) means using (task_id);
