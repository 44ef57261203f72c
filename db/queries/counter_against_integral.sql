-- The energy counter against the integral of power samples, by kind of GPU and of window
-- A window that is not among the unusual is a repeat on real boards.
select g.name as gpu, coalesce(w.kind, 'repeat') as kind, coalesce(w.reality, 'real') as reality,
       g.power_field, count(*)::int as windows,
       avg(g.ratio) as mean_ratio, stddev_samp(g.ratio) as sd_ratio, min(g.ratio) as least_ratio,
       max(g.ratio) as largest_ratio,
       count(*) filter (where abs(g.counter_j - g.integrated_j)
                            > coalesce(g.timing_uncertainty_j, 0)
                            + coalesce(g.integrated_uncertainty_j, 0) + 0.02 * g.counter_j)::int
           as beyond_both_uncertainties
  from gpu_energies g
  left join windows w on w.id = g.window_id and (w.kind <> 'repeat' or w.reality <> 'real')
 where not g.sibling and g.counter_j is not null and g.integrated_j is not null
 group by g.name, w.kind, w.reality, g.power_field
 order by g.name, kind, reality, g.power_field;
