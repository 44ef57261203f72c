-- Two meters on the same windows: energy_j beside energy_estimated_j, per repeat of a measurement
select m.model, m.backend, m.board, m.reality, m.workload, m.replicate,
       r.ordinal as repeat, r.duration_s,
       r.energy_j, r.timing_uncertainty_j, r.energy_method,
       r.energy_estimated_j, r.estimate_method,
       r.energy_estimated_j - r.energy_j as difference_j,
       r.energy_estimated_j / r.energy_j - 1 as relative_difference,
       r.reasons, m.task_key
  from windows r join measurements m using (attempt_id)
 where r.kind = 'repeat' and (r.energy_j is not null or r.energy_estimated_j is not null)
 order by m.measured_at, m.task_key, r.ordinal;
