// Every client through the expiry of tokens, a lost refresh answer, two parallel refreshes, a restart of the server, a change
// of its user's role, and the removal from the home: node clients/outages/run.mjs SETUP [NAMES]. No client may sign in again,
// miss a reading, or receive one twice.
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { events, keep } from '../../../../examples/clients/live.mjs';
import { Account } from './account.mjs';
import { clients } from './clients.mjs';
import { demote, expire, publish, remove, restart, until } from './conductor.mjs';

const ME = 'query Me { me { email } }';
const READINGS = `subscription Readings($homeId: ID!, $after: ID) {
  homeTelemetry(homeId: $homeId, afterId: $after) { id sensors { temperature } }
}`;

// Apollo Client expects it, as in a browser.
globalThis.WebSocket ??= WebSocket;
// urql aborts a stream that nobody reads any longer and catches no error of that.
process.on('unhandledRejection', (reason) => {
  if (reason?.name !== 'AbortError') throw reason;
});

const setup = JSON.parse(process.argv[2]);
const names = process.argv[3]?.split(',') ?? Object.keys(clients);

/** An app: one client of one user, which follows the readings of the home. */
class App {
  received = [];
  constructor(name, credentials) {
    this.name = name;
    this.account = new Account(setup.url, credentials);
  }

  async start() {
    await this.account.signIn();
    this.client = clients[this.name](setup.url, this.account.session);
    await this.query();
    this.following = this.#follow().catch((error) => { this.end = error; });
  }

  async #follow() {
    let after = setup.after;
    if (!this.client.subscribe) return;
    for await (const { homeTelemetry: reading } of keep(() => events(this.client, READINGS, { homeId: setup.homeId, after }))) {
      after = reading.id;
      this.received.push(reading.sensors.temperature);
    }
  }

  async query() {
    const { me } = await this.client.query(ME);
    assert.equal(me.email, this.account.email, this.name);
  }

  /** All readings to this one have arrived once, in order, and the user is signed in. */
  async checkAt(what, last) {
    await this.query();
    if (this.client.subscribe) {
      const describe = () => `${this.name}, ${what}: ${this.received} and not to ${last}; ended: ${this.end?.stack}`;
      await until(() => this.received.length >= last || this.end, describe);
      assert.deepEqual(this.received, Array.from({ length: last }, (_, at) => at + 1), `${this.name}, ${what}`);
    }
    assert.equal(this.account.n_sign_ins, 1, `${this.name}, ${what}: signed in again`);
  }
}

const apps = names.map((name, at) => new App(name, setup.users[at]));
const each = (work) => Promise.all(apps.map(work));
let last = 0;
const check = (what) => each((app) => app.checkAt(what, last));
const report = (n) => publish(last + 1, last += n);

await each((app) => app.start());
await report(3);
await check('at the start');

await expire();
await report(3);
await check('after the access tokens expired');

await expire();
await each(async (app) => { app.account.n_lost = 2; });
await report(3);
await check('after the answers of two refreshes were lost');
await each(async (app) => assert.equal(app.account.n_lost, 0, `${app.name}: refreshes were lost`));

// Another tab of each app shares the tokens. Both go on, now and after the next expiry.
const twins = apps.map((app) => app.account.twin());
await expire();
await each(async (app) => { app.account.together = 2; });
await Promise.all([report(3), ...twins.map((twin) => twin.request(ME)), ...apps.map((app) => app.query())]);
await check('after two refreshes at once');
await expire();
await report(3);
await Promise.all(twins.map((twin) => twin.request(ME)));
await check('after the expiry that followed two refreshes at once');

await restart(last + 1, last += 3);
await report(3);
await check('after a restart of the server');

await demote();
await report(3);
await check('after a change of role');

await remove();
await each(async (app) => {
  if (app.client.subscribe) await until(() => app.end, () => `${app.name}: a removed member's stream has not ended`);
});
for (const { name, end, client } of apps) {
  if (client.subscribe) console.error(`${name}: a removed member's stream ended with ${end.code}: ${end.message}`);
  assert.ok(!client.subscribe || ['NOT_FOUND', 'FORBIDDEN'].includes(end.code), `${name}: ${end?.stack}`);
}
await check('after the removal from the home');
process.exit(0);
