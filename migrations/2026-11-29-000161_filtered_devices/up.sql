-- The one filter of devices. A query in FROM and stable, so that the planner inlines it and plans as if it were written in
-- the statement: limits, orders and other conditions apply to it. A condition that is null passes every device, so one
-- prepared statement serves all filters. Without any, is_filtered is false and nothing is evaluated for a device.
create function filtered_devices(
    of_home bigint,
    member_device_ids bigint[],
    is_filtered boolean,
    room bigint,
    kinds text[],
    online boolean,
    battery_below integer,
    last_seen_before timestamptz,
    search text
) returns setof devices
language sql stable parallel safe
as '
select d.*
from devices d
where d.home_id = of_home
    and sees_device(member_device_ids, d.id)
    and case
        when is_filtered then
            coalesce(d.room_id = room, room is null)
            and coalesce(d.type = any (kinds), true)
            and coalesce(
                filtered_devices.online = exists (select from device_states s where s.device_id = d.id and s.online),
                true
            )
            and (
                battery_below is null
                or exists (
                    select from device_states s where s.device_id = d.id and s.battery_level < battery_below
                )
            )
            and (
                last_seen_before is null
                or not exists (
                    select from device_states s where s.device_id = d.id and s.last_seen_at >= last_seen_before
                )
            )
            and coalesce(
                strpos(fold_case(concat_ws('' '', d.name, d.key, d.mac_address)), (select fold_case(search))) > 0,
                true
            )
        else true
    end';
comment on function filtered_devices is 'The devices of a home that a membership with these memberships.device_ids sees and that pass the filter.';
