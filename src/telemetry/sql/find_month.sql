-- Whether the table of a month exists, and whether it is a partition. One that is being detached is none any more.
select
    to_regclass(:name) is not null,
    exists (
        select
        from pg_inherits
        where inhrelid = to_regclass(:name) and inhparent = 'telemetry'::regclass and not inhdetachpending
    )
