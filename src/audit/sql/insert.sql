insert into audit_log (home_id, actor_kind, actor_id, actor, address, action, target, details)
select
    :home::bigint,
    :kind::text,
    :user::bigint,
    -- The name at this moment stays in the log when the account is renamed or deleted.
    coalesce(
        (
            select case :kind::text when 'INTEGRATION' then name else email end
            from users
            where id = :user::bigint
        ),
        'user ' || :user::bigint
    ),
    :address::text,
    n.action,
    n.target,
    n.details
from unnest(:actions::text[], :targets::text[], :details::json[]) n (action, target, details);
