-- Own rows in the columns of an export that a fit by lengths reads: set-up, lengths, joules
select model, model_commit, board, gpus, tensor_parallel, expert_parallel, data_parallel, dtype,
       quantization, backend, options, mode, threads, speculation, speculative_tokens, draft,
       declared_power_limit_w, backend_version, batch_size, input_tokens, output_tokens,
       mean_output_tokens, requests, energy_j, energy_j_per_output_token, energy_j_per_request,
       workload, weights, protocol, reality, source
  from evidence
 where source is null
   and ((select coalesce(current_setting('campaign.name', true), '') = '')
        or row_id in (select a.id
                        from campaigns c
                        join campaign_tasks k on k.campaign_id = c.id
                        join attempts a on a.task_id = k.task_id
                       where c.name = current_setting('campaign.name', true)))
 order by row_id;
