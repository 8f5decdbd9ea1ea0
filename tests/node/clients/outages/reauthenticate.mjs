// A socket of examples/clients/live.mjs renews its token by a ping: node clients/outages/reauthenticate.mjs SETUP. It stays
// open after the token with which it was opened has expired.
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { connect, events } from '../../../../examples/clients/live.mjs';
import { Account } from './account.mjs';
import { advance, publish, until } from './conductor.mjs';

const READINGS = `subscription Readings($homeId: ID!, $after: ID) {
  homeTelemetry(homeId: $homeId, afterId: $after) { id sensors { temperature } }
}`;
/** When the socket is opened the token has this long to live, and is renewed when a minute is left. */
const LEFT_MS = 75_000;

const { url, homeId, after, users } = JSON.parse(process.argv[2]);
const account = new Account(url, users[0]);
await account.signIn();
const first = account.store.load();
// Of its 15 minutes 10 have passed on the server; the client is told that it has to hurry.
await advance(10);
account.store.save({ ...first, expiresAt: new Date(Date.now() + LEFT_MS).toISOString() });

const live = connect(url, account.session, WebSocket);
let [n_closed, n_pongs] = [0, 0];
live.on('closed', () => { n_closed += 1; });
live.on('message', (message) => { n_pongs += message.type === 'pong' ? 1 : 0; });
const received = [];
(async () => {
  for await (const { homeTelemetry: reading } of events(live, READINGS, { homeId, after })) received.push(reading.sensors.temperature);
})();
await publish(1, 1);
await until(() => received.length === 1, () => 'the socket is open');
assert.equal(account.store.load().accessToken, first.accessToken);
await until(() => n_pongs === 1, () => `a pong; closed ${n_closed} times`);
assert.notEqual(account.store.load().accessToken, first.accessToken);

// The first token has expired now.
await advance(10);
await publish(2, 3);
await until(() => received.length === 3, () => `readings: ${received}`);
assert.deepEqual([received, n_closed], [[1, 2, 3], 0]);
process.exit(0);
