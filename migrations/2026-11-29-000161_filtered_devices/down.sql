drop function filtered_devices(bigint, bigint[], boolean, bigint, text[], boolean, integer, timestamptz, text);
