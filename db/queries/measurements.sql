-- Every accepted row: configuration, latency, energy or its estimate, method, marks and reasons
select *
  from measurements
 order by measured_at, task_key;
