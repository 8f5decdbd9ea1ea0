-- The ids of up to :limit devices of each home that the viewer sees and that pass the filter, in the order :by: by name,
-- by the time of the last message, or, with anything else, by id; :descending turns it round. They come after the device
-- :after, whose place in the order is :after_name or :after_seen. All devices of the home are looked at, at most 10,000: a
-- page by id is read by page_devices.sql or newest_devices.sql.
select sorted.home_id, sorted.id, sorted.name, nullif(sorted.seen, '-infinity')
from memberships m
    cross join lateral (
        select
            d.home_id, d.id, k.name, k.seen,
            row_number() over (
                order by
                    case when not :descending::boolean then k.name end, case when :descending then k.name end desc,
                    case when not :descending then k.seen end, case when :descending then k.seen end desc,
                    case when :descending then - d.id else d.id end
            ) as position
        from filtered_devices(
                m.home_id, m.device_ids, :is_filtered, :room, :kinds, :online, :battery_below, :last_seen_before, :search
            ) d
            cross join lateral (
                select
                    case when :by::text = 'NAME' then fold_case(d.name) else '' end as name,
                    case
                        when :by = 'LAST_SEEN_AT' then
                            coalesce(
                                (select o.last_seen_at from device_states o where o.device_id = d.id), '-infinity'
                            )
                        else '-infinity'
                    end as seen
            ) k
        where case
                when :after::bigint is null then true
                when :descending then
                    (k.name, k.seen, d.id)
                    < (coalesce(:after_name::text, ''), coalesce(:after_seen::timestamptz, '-infinity'), :after)
                else
                    (k.name, k.seen, d.id)
                    > (coalesce(:after_name, ''), coalesce(:after_seen, '-infinity'), :after)
            end
        order by position
        limit :limit
    ) sorted
where m.user_id = :viewer
    and m.home_id = any (:homes::bigint[])
order by sorted.home_id, sorted.position
