-- Only an account with the rights of pg_read_all_settings sees the setting. Over TCP this machine has the address of the
-- server where both are one machine.
select inet_server_addr() is not distinct from inet_client_addr() as is_local,
       (select setting from pg_settings where name = 'data_directory') as folder
