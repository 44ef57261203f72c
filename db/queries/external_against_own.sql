-- Rows that others measured beside our own of the same model, board, batch and like lengths
-- Like is within 25 percent; the models' names are compared without their owner.
with own as (
    select lower(reverse(split_part(reverse(model), '/', 1))) as name, board, board_count, backend,
           quantization, tensor_parallel, batch_size,
           -- Where lengths are drawn, input_tokens is the longest there may be.
           case when lengths = 'fixed' then input_tokens
                else input_tokens_total::float8 / nullif(requests, 0) end as input_tokens,
           output_tokens_total::float8 / nullif(requests, 0) as output_tokens, reality, weights,
           joules_per_output_token, workload, task_key
      from measurements
     where joules_per_output_token is not null
)
select x.source, x.origin_reality, x.model, x.board, x.gpus, x.batch_size, x.input_tokens,
       coalesce(x.mean_output_tokens, x.output_tokens) as output_tokens,
       x.backend as external_backend, x.energy_j_per_output_token as external_joules_per_output_token,
       o.backend, o.workload, o.reality, o.weights, o.joules_per_output_token,
       o.joules_per_output_token / x.energy_j_per_output_token as own_over_external, o.task_key
  from external_rows x
  join own o on o.name = lower(reverse(split_part(reverse(x.model), '/', 1)))
            and o.board = x.board and o.board_count = x.gpus
            and o.quantization is not distinct from x.quantization
            and o.batch_size between 0.75 * x.batch_size and 1.25 * x.batch_size
            and o.output_tokens between 0.75 * coalesce(x.mean_output_tokens, x.output_tokens)
                                    and 1.25 * coalesce(x.mean_output_tokens, x.output_tokens)
            and (x.input_tokens is null
                 or o.input_tokens between 0.75 * x.input_tokens and 1.25 * x.input_tokens)
 where x.energy_j_per_output_token is not null
 order by x.source, x.model, x.board, x.gpus, x.batch_size, output_tokens, o.task_key;
