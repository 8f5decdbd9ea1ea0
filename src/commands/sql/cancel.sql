-- Ends commands that the caller has locked and found to be cancellable.
update commands c
set
    status = 'CANCELLED',
    superseded_by = :superseded_by,
    error = :error,
    finished_at = :now,
    deadline = null,
    updated_at = clock_timestamp()
where c.id = any(:ids)
returning c.*, c.type as kind;
