// The statements: prepared by name once a connection, like the server's with one plan for all values.
import DataLoader from 'dataloader';
import pg from 'pg';

const COLUMNS = ['current', 'gas_ppm', 'flame', 'bin_level', 'power_w', 'energy_kwh', 'voltage_v', 'current_a',
  'frequency_hz', 'power_factor', 'distance_cm', 'temperature', 'humidity'];
const SENSORS = COLUMNS.map((column) => column.replace(/_(.)/g, (_, letter) => letter.toUpperCase()));
const READ = ['id', 'device_id as "deviceId"', 'recorded_at as "recordedAt"', 'received_at as "receivedAt"',
  ...COLUMNS.map((column, i) => `${column} as "${SENSORS[i]}"`)].join(', ');

const pool = new pg.Pool({ max: 10, options: '-c plan_cache_mode=force_generic_plan' });

const query = async (name, text, values) => (await pool.query({ name, text, values })).rows;

/** The devices of a home, which is named by its key. Those of other homes may have the same keys. */
export const devicesByHomeKey = (home) => query('by_home_key',
  'select d.id, d.key, d.name, d.home_id as "homeId" from devices d join homes h on h.id = d.home_id where h.key = $1', [home]);

export const devicesOf = (home, first) =>
  query('devices', 'select id, key, name from devices where home_id = $1 order by id limit $2', [home, first]);

export const deviceById = async (id) => (await query('device', 'select id, key, name from devices where id = $1', [id]))[0];

export const readingsOf = (device, first) => query('readings',
  `select ${READ} from telemetry where device_id = $1 order by recorded_at desc, id desc limit $2`, [device, first]);

/** Latest readings of all devices of a request in one statement. */
export const latestLoader = () => new DataLoader(async (ids) => {
  const rows = await query('latest', `select latest.* from unnest($1::bigint[]) as wanted (id) cross join lateral (
    select ${READ} from telemetry where device_id = wanted.id order by recorded_at desc, id desc limit 1) latest`, [ids]);
  const byDevice = new Map(rows.map((row) => [row.deviceId, row]));
  return ids.map((id) => byDevice.get(id) ?? null);
});

const STORED = ['home_id', 'device_id', 'recorded_at', 'received_at', 'dedup', ...COLUMNS,
  'firmware_version', 'signal_strength', 'battery_level'];
const TYPES = { home_id: 'bigint', device_id: 'bigint', recorded_at: 'timestamptz', received_at: 'timestamptz',
  dedup: 'bigint', flame: 'boolean', firmware_version: 'text' };
const INSERT = `insert into telemetry (${STORED.join(', ')}, device_clock) select *, true from unnest(${
  STORED.map((column, i) => `$${i + 1}::${TYPES[column] ?? 'float8'}[]`).join(', ')}) returning id`;

/** Stores readings in one statement and gives each its id. */
export async function store(readings) {
  const value = {
    home_id: (r) => r.homeId, device_id: (r) => r.deviceId, recorded_at: (r) => r.recordedAt,
    received_at: (r) => r.receivedAt, dedup: (r) => r.dedup, firmware_version: (r) => r.metadata.firmwareVersion,
    signal_strength: (r) => r.metadata.signalStrength, battery_level: (r) => r.metadata.batteryLevel,
    ...Object.fromEntries(COLUMNS.map((column, i) => [column, (r) => r[SENSORS[i]]])),
  };
  const rows = await query('store', INSERT, STORED.map((column) => readings.map((r) => value[column](r) ?? null)));
  rows.forEach((row, i) => { readings[i].id = row.id; });
}
