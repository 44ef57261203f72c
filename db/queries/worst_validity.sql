-- The hundred accepted measurements with most marks, then with the widest interval, and why
select model, backend, board, board_count, reality, protocol, workload, replicate, marks, reasons,
       joules_per_output_token, repeats,
       joules_per_output_token_within_session_half_width / nullif(joules_per_output_token, 0)
           as relative_half_width, task_key
  from measurements
 where marks <> '{}' or joules_per_output_token_within_session_half_width is not null
 order by cardinality(marks) desc, relative_half_width desc nulls last, task_key
 limit 100;
