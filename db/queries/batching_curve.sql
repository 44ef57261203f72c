-- How joules per prompt fall with the batch, relative to one prompt alone on the same engine
-- An engine that computes no more together than the batch is loaded for every batch anew.
with held as (
    select id as engine_id,
           min(id) over (partition by to_jsonb(e) - '{id,digest,options}'::text[],
                                      e.options - 'max_num_seqs') as held
      from engines e
), means as (
    select min(task_id) as task_id, backend_version, reality, count(*)::int as replicates,
           avg(joules_per_prompt) as joules_per_prompt,
           avg(joules_per_output_token) as joules_per_output_token,
           avg(output_tokens_per_s) as output_tokens_per_s
      from measurements
     where energy_j is not null
     group by engine_id, protocol_id, workload, backend_version, reality
), told as (
    select *, md5(concat_ws('|', held, 'version=' || backend_version, reality, protocol_id,
                            'together=' || nullif(options ->> 'max_num_seqs', batch_size::text),
                            replace(workload, ' x' || batch_size, ''))) as alike
      from means join configurations using (task_id) join held using (engine_id)
     where decoding = 'greedy' and prefix_tokens = 0
)
select model, weights, model_commit, backend, backend_version, dtype, quantization, tensor_parallel,
       threads, options, mode, speculation, speculative_tokens, draft, power_limit_w, board,
       board_count, reality, protocol, protocol_id, workload, lengths, arrival, input_tokens,
       output_tokens, batch_size, replicates, joules_per_prompt, joules_per_output_token,
       output_tokens_per_s,
       case when min(batch_size) over part = 1
            then first_value(joules_per_prompt) over part / joules_per_prompt
            end as times_less_than_alone
  from told
window part as (partition by alike order by batch_size, options)
 order by model, backend, board, tensor_parallel, reality, arrival, input_tokens, output_tokens,
          batch_size, workload;
