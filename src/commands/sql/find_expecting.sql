-- The commands whose effect may still be observed, newest first. A command that timed out is observed until
-- `finished_since`.
select c.*, c.type as kind
from commands c
where c.expect is not null
    and c.dispatched_at is not null
    and c.status in ('PENDING', 'SENT', 'ACKED', 'TIMED_OUT')
    and (c.finished_at is null or c.finished_at >= :finished_since)
order by c.dispatched_at desc
limit :limit;
