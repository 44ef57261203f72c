-- Rows of others, and the store's own beside them.

-- name: sources
-- The sources that rows were imported from, with how many.
select source, count(*) as rows from external_rows group by source order by source;

-- name: may_remove
-- Whether this login may delete them.
select has_table_privilege('external_rows', 'delete');

-- name: remove
-- Every row of one source, gone.
delete from external_rows where source = %(source)s;

-- name: evidence
-- Rows of campaigns and of sources. Without a campaign, those of all of them.
select e.*
  from evidence e
 where (case when e.source is null
             then %(own)s::boolean
                  and (%(campaign)s::text is null or %(campaign)s::text = any(e.campaigns))
             else e.source = any(%(sources)s::text[]) end)
   and (%(reality)s::text[] is null or e.reality = any(%(reality)s::text[]))
 order by e.source nulls first, e.row_id;
