-- A sequence that was never used has the last value 1.
select case when is_called then last_value else 0 end
from telemetry_id_seq
