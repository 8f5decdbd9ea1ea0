-- Ends commands that the caller has locked and found to be cancellable.
update commands c
set
    status = 'CANCELLED',
    superseded_by = :superseded_by,
    error = :error,
    finished_at = :now,
    deadline = null,
    updated_at = greatest(clock_timestamp(), c.updated_at + interval '1 us')
where c.id = any(:ids)
returning c.*, c.type as kind;
