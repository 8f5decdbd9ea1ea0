// What every client must have received.
import assert from 'node:assert/strict';

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

/** The variables of the operations, from what the Rust test set up. */
export const variables = (setup) => ({
  login: { input: { email: setup.email, password: setup.password } },
  home: { homeId: setup.homeId },
  send: { input: { deviceId: setup.deviceIds[0], type: 'SET_POWER', payload: { power: true } } },
  sendWithoutPayload: { input: { deviceId: setup.deviceIds[1], type: 'BLINK' } },
  absent: { id: '987654321' },
});

export function login(data, setup) {
  assert.equal(data.login.user.email, setup.email);
  assert.match(data.login.expiresAt, TIME);
  return data.login.accessToken;
}

export function home(data, setup) {
  const { home } = data;
  assert.equal(home.id, setup.homeId);
  assert.equal(home.name, 'Test');
  const { nodes, pageInfo } = home.devices;
  assert.deepEqual(nodes.map((device) => device.id), setup.deviceIds);
  assert.deepEqual(nodes.map((device) => device.type), ['SENSOR_NODE', 'SENSOR_NODE']);
  assert.equal(pageInfo.hasNextPage, false);
  assert.deepEqual(home.lamps.nodes, []);
  assert.match(nodes[0].latestTelemetry.recordedAt, TIME);
  assert.equal(nodes[0].latestTelemetry.sensors.temperature, 21.5);
  assert.equal(nodes[0].latestTelemetry.sensors.humidity, null);
}

export function sent(data, setup) {
  const { sendCommand } = data;
  assert.match(sendCommand.id, /^cmd_/);
  assert.equal(sendCommand.type, 'SET_POWER');
  assert.deepEqual(sendCommand.payload, { power: true });
  assert.equal(sendCommand.device.id, setup.deviceIds[0]);
}

export function sentWithoutPayload(data) {
  assert.deepEqual(data.sendCommand.payload, {});
}

export function reading(data, setup) {
  assert.ok(setup.deviceIds.includes(data.telemetry.device.id));
  assert.equal(data.telemetry.device.key, data.telemetry.device.name);
  assert.equal(data.telemetry.sensors.temperature, 21.5);
}

/** The home of a member: everything but the invitations, which are null with their error. */
export function partial(data, errors, setup) {
  assert.equal(data.home.id, setup.homeId);
  assert.equal(data.home.name, 'Test');
  assert.equal(data.home.invitations, null);
  assert.equal(errors.length, 1);
  assert.equal(errors[0].extensions.code, 'FORBIDDEN');
  assert.deepEqual(errors[0].path, ['home', 'invitations']);
}

export function refused(errors, code, path) {
  assert.equal(errors.length, 1);
  assert.equal(errors[0].extensions.code, code);
  assert.deepEqual(errors[0].path, path);
}

/** The promise must fail; returns its error. */
export async function failure(promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  assert.fail(`no error but ${JSON.stringify(value)}`);
}
