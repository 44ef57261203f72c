-- How joules per prompt fall with the batch, relative to one prompt alone on the same engine
with by_workload as (
    select engine_id, protocol_id, reality, min(task_id) as task_id, count(*) as replicates,
           sum(joules_per_prompt) as prompt_j, count(joules_per_prompt) as prompt_n,
           sum(joules_per_output_token) as token_j, count(joules_per_output_token) as token_n,
           sum(output_tokens_per_s) as tokens_per_s, count(output_tokens_per_s) as tokens_n
      from measurements
     where energy_j is not null
     group by engine_id, protocol_id, reality, workload
), means as (
    select m.engine_id, m.protocol_id, m.reality, lengths, arrival, input_tokens, output_tokens,
           batch_size, min(task_id) as task_id, sum(m.replicates)::int as replicates,
           sum(m.prompt_j) / nullif(sum(m.prompt_n), 0) as joules_per_prompt,
           sum(m.token_j) / nullif(sum(m.token_n), 0) as joules_per_output_token,
           sum(m.tokens_per_s) / nullif(sum(m.tokens_n), 0) as output_tokens_per_s
      from by_workload m join configurations using (task_id)
     where decoding = 'greedy' and prefix_tokens = 0
     group by m.engine_id, m.protocol_id, m.reality, lengths, arrival, input_tokens, output_tokens,
              batch_size
)
select g.model, g.backend, g.quantization, g.tensor_parallel, g.options, g.board, g.board_count,
       m.reality, g.protocol, m.lengths, m.arrival, m.input_tokens, m.output_tokens, m.batch_size,
       m.replicates, m.joules_per_prompt, m.joules_per_output_token, m.output_tokens_per_s,
       one.joules_per_prompt / m.joules_per_prompt as times_less_than_alone
  from means m
  join configurations g using (task_id)
  left join means one on (one.engine_id, one.protocol_id, one.reality, one.lengths, one.arrival,
                          one.input_tokens, one.output_tokens, one.batch_size)
                       = (m.engine_id, m.protocol_id, m.reality, m.lengths, m.arrival,
                          m.input_tokens, m.output_tokens, 1)
 order by g.model, g.backend, g.board, g.tensor_parallel, m.reality, m.arrival, m.input_tokens,
          m.output_tokens, m.batch_size;
