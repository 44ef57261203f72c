-- Mean and largest watts, clocks, heat and throttling of GPUs while measuring, by kind of GPU
-- A window that is not among the unusual is a repeat on real boards.
select g.name as gpu, coalesce(w.reality, 'real') as reality, g.power_limit_w,
       count(*)::int as windows, avg(g.mean_w) as mean_w,
       max(g.max_w) as most_w, avg(g.mean_w / nullif(g.power_limit_w, 0)) as of_the_limit,
       avg(g.temperature_c) as temperature_c, max(g.temperature_c) as hottest_c,
       avg(g.sm_clock_mhz) as sm_clock_mhz,
       count(*) filter (where g.throttle_reasons <> '{}')::int as windows_throttled
  from gpu_energies g
  left join windows w on w.id = g.window_id and (w.kind <> 'repeat' or w.reality <> 'real')
 where (w.kind is null or w.kind = 'repeat') and not g.sibling
 group by g.name, w.reality, g.power_limit_w
 order by g.name, reality, g.power_limit_w;
