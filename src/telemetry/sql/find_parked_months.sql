-- A time in each month that has parked readings: one descent into the index a month.
with recursive months (at) as (
    select min(recorded_at) from parked_readings
    union all
    select (
        select min(p.recorded_at)
        from parked_readings p
        where p.recorded_at >= (date_trunc('month', m.at at time zone 'UTC') + interval '1 month') at time zone 'UTC'
    )
    from months m
    where m.at is not null
)
select at
from months
where at is not null
