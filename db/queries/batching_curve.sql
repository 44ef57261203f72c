-- How joules per prompt fall with the batch, relative to one prompt alone on the same engine
with means as (
    select engine_id, protocol_id, reality, lengths, arrival, input_tokens, output_tokens, batch_size,
           min(task_id) as task_id, count(*)::int as replicates,
           avg(joules_per_prompt) as joules_per_prompt,
           avg(joules_per_output_token) as joules_per_output_token,
           avg(output_tokens_per_s) as output_tokens_per_s
      from measurements
     where energy_j is not null and decoding = 'greedy' and prefix_tokens = 0
     group by engine_id, protocol_id, reality, lengths, arrival, input_tokens, output_tokens,
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
