-- Gates and reasons with how often they occur: in accepted rows, and in attempts that do not count
with asked as (
    select a.id, a.outcome, a.voided_at, a.kind, a.marks
      from attempts a
     where (select coalesce(current_setting('campaign.name', true), '') = '')
        or a.task_id in (select k.task_id
                           from campaign_tasks k join campaigns c on c.id = k.campaign_id
                          where c.name = current_setting('campaign.name', true))
), accepted as (
    select id, marks from asked where outcome = 'ok' and voided_at is null
)
select 'accepted' as what, 'all' as word, count(*)::bigint as attempts from accepted
 union all
select 'mark', m, count(*) from accepted, unnest(marks) m group by m
 union all
select 'reason', r, count(*)
  from accepted a join summaries m on m.attempt_id = a.id, unnest(m.reasons) r
 group by r
 union all
select outcome, kind, count(*) from asked
 where outcome in ('invalid', 'faulted', 'lost')
 group by outcome, kind
 union all
select 'voided', 'by people', count(*) from asked where voided_at is not null
having count(*) > 0
 order by what, attempts desc, word;
