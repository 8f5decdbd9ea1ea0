// A command-line client. SMARTHOME_EMAIL=… SMARTHOME_PASSWORD=… node app.mjs COMMAND
//   devices                     lists the homes and their devices
//   switch DEVICE_ID on|off     sends a command and watches it to its end
//   follow HOME_ID              prints each reading; continues where it stopped, also after a restart of this program
import { randomUUID } from 'node:crypto';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import WebSocket from 'ws';
import { connect, events, keep } from '../live.mjs';
import { Session, repeated } from '../session.mjs';

const { SMARTHOME_URL: url = 'http://127.0.0.1:4000/graphql', SMARTHOME_EMAIL: email, SMARTHOME_PASSWORD: password } =
  process.env;
const { SMARTHOME_STATE: folder = '.' } = process.env;

const HOMES = `query Homes { homes { id name myRole } }`;
const DEVICES = `query Devices($homeId: ID!, $after: String) {
  devices(homeId: $homeId, first: 100, after: $after) {
    nodes { id key name type online latestTelemetry { recordedAt sensors { temperature humidity } } }
    pageInfo { hasNextPage endCursor }
  }
}`;
const SEND = `mutation Send($input: SendCommandInput!) { sendCommand(input: $input) { id status } }`;
const WATCH = `subscription Watch($id: ID!) { commandProgress(commandId: $id) { id status error } }`;
const READINGS = `subscription Readings($homeId: ID!, $after: ID) {
  homeTelemetry(homeId: $homeId, afterId: $after) { id device { key } recordedAt sensors { temperature } }
}`;

const FINAL = ['SUCCEEDED', 'FAILED', 'CANCELLED', 'EXPIRED', 'TIMED_OUT'];

/** A value in a file that only its owner may read. */
function file(name) {
  const path = `${folder}/${name}`;
  return {
    load() {
      try {
        return JSON.parse(readFileSync(path, 'utf8'));
      } catch {
        return undefined;
      }
    },
    // Renamed when it is complete: the program may end at any moment.
    save(value) {
      writeFileSync(`${path}.new`, JSON.stringify(value), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    },
    clear: () => rmSync(path, { force: true }),
  };
}

async function devices(session) {
  const { homes } = await session.request(HOMES);
  for (const home of homes) {
    console.log(`home ${home.id} ${home.name} (${home.myRole})`);
    for (let after = null; ;) {
      const { devices: page } = await session.request(DEVICES, { homeId: home.id, after });
      for (const device of page.nodes) {
        const state = device.online ? 'online' : 'offline';
        console.log(`  device ${device.id} ${device.key} ${state} ${device.latestTelemetry?.sensors.temperature ?? '-'}`);
      }
      if (!page.pageInfo.hasNextPage) break;
      after = page.pageInfo.endCursor;
    }
  }
}

async function switchDevice(session, live, deviceId, state) {
  const input = { deviceId, type: 'SET_POWER', payload: { power: state === 'on' }, idempotencyKey: randomUUID() };
  const { sendCommand: command } = await repeated(() => session.request(SEND, { input }));
  const updates = () => events(live, WATCH, { id: command.id });
  for await (const { commandProgress: { status, error } } of keep(updates)) {
    console.log(status, error ?? '');
    if (FINAL.includes(status)) return;
  }
}

async function follow(live, homeId) {
  const last = file(`.last-reading-${homeId}.json`);
  const readings = () => events(live, READINGS, { homeId, after: last.load() ?? null });
  for await (const { homeTelemetry: reading } of keep(readings)) {
    console.log(JSON.stringify(reading));
    last.save(reading.id);
  }
}

const [command, ...args] = process.argv.slice(2);
const session = new Session(url, file('.session.json'));
if (!file('.session.json').load()) await session.signIn(email, password);
const live = connect(url, session, WebSocket);
const commands = { devices, switch: (s, ...given) => switchDevice(s, live, ...given), follow: (_, id) => follow(live, id) };
await commands[command](session, ...args);
await live.dispose();
