// A page that signs in, lists devices, shows their readings and states live, and switches lamps. The server's address is
// the `server` parameter of the page's own address: /web/?server=http://127.0.0.1:4000
import { connect, events, keep } from '../live.mjs';
import { Session, SignedOut, repeated } from '../session.mjs';

const server = new URLSearchParams(window.location.search).get('server') ?? 'http://127.0.0.1:4000';
const url = `${server}/graphql`;

const DEVICES = `query { homes { id devices(first: 100) { nodes { ...Card } } } }
  fragment Card on Device { id name type online latestTelemetry { id sensors { temperature } } }`;
const READINGS = `subscription($homeId: ID!, $after: ID) {
  homeTelemetry(homeId: $homeId, afterId: $after) { id device { id } sensors { temperature } }
}`;
const STATES = 'subscription($homeId: ID!) { homeDeviceUpdates(homeId: $homeId) { id online } }';
const SEND = 'mutation($input: SendCommandInput!) { sendCommand(input: $input) { id status } }';
const WATCH = 'subscription($id: ID!) { commandProgress(commandId: $id) { id status error } }';
const FINAL = ['SUCCEEDED', 'FAILED', 'CANCELLED', 'EXPIRED', 'TIMED_OUT'];

/** Shared by the tabs of this origin. Every script of the page can read it: allow none but your own. */
const store = {
  load: () => JSON.parse(window.localStorage.getItem('session')),
  save: (tokens) => window.localStorage.setItem('session', JSON.stringify(tokens)),
  clear: () => window.localStorage.removeItem('session'),
};
const session = new Session(url, store, window.fetch.bind(window));
const live = connect(url, session);
const cards = new Map();

const element = (id) => document.getElementById(id);
const say = (text) => { element('message').textContent = text; };

/** One line for each device. */
function card(device) {
  const line = document.createElement('li');
  line.dataset.device = device.id;
  const [name, online, temperature, command] = [1, 2, 3, 4].map(() => document.createElement('span'));
  name.textContent = `${device.name}: `;
  command.className = 'command';
  line.append(name, online, temperature, command);
  if (device.type === 'LIGHT') {
    for (const state of ['on', 'off']) {
      const button = document.createElement('button');
      button.textContent = state;
      button.onclick = () => attempt(() => switchLamp(device.id, state, command));
      line.append(button);
    }
  }
  const shown = {
    setOnline: (isOnline) => { online.textContent = isOnline ? 'online ' : 'offline '; },
    setTemperature: (value) => { temperature.textContent = value == null ? '' : `${value} °C `; },
  };
  shown.setOnline(device.online);
  shown.setTemperature(device.latestTelemetry?.sensors.temperature);
  cards.set(device.id, shown);
  element('devices').append(line);
}

async function switchLamp(deviceId, state, shown) {
  const input = {
    deviceId, type: 'SET_POWER', payload: { power: state === 'on' }, idempotencyKey: crypto.randomUUID(),
  };
  const { sendCommand } = await repeated(() => session.request(SEND, { input }));
  const updates = () => events(live, WATCH, { id: sendCommand.id });
  for await (const { commandProgress: { status, error } } of keep(updates)) {
    shown.textContent = `${state}: ${status} ${error ?? ''}`;
    if (FINAL.includes(status)) return;
  }
}

async function showHomes() {
  const { homes } = await session.request(DEVICES);
  element('sign-in').hidden = true;
  element('home').hidden = false;
  for (const home of homes) {
    home.devices.nodes.forEach(card);
    // The stream begins with the readings that were stored since the list was read, in a home without any with the
    // first one. Ids have up to 19 digits.
    const ids = home.devices.nodes.map((device) => BigInt(device.latestTelemetry?.id ?? 0));
    const newest = ids.reduce((a, b) => (b > a ? b : a), 0n);
    let after = String(newest);
    const readings = () => events(live, READINGS, { homeId: home.id, after });
    each(readings, ({ homeTelemetry: reading }) => {
      after = reading.id;
      cards.get(reading.device.id)?.setTemperature(reading.sensors.temperature);
    });
    const states = () => events(live, STATES, { homeId: home.id });
    each(states, ({ homeDeviceUpdates: device }) => cards.get(device.id)?.setOnline(device.online));
  }
}

/** Shows each event of a subscription, in the background. */
async function each(open, show) {
  try {
    for await (const event of keep(open)) show(event);
  } catch (error) {
    failed(error);
  }
}

function failed(error) {
  if (error instanceof SignedOut) {
    element('sign-in').hidden = false;
    element('home').hidden = true;
    element('devices').replaceChildren();
  }
  say(error.message);
}

const attempt = (work) => work().then(() => say(''), failed);

element('sign-in').onsubmit = (event) => {
  event.preventDefault();
  const { email, password } = Object.fromEntries(new FormData(event.target));
  attempt(async () => {
    await session.signIn(email, password);
    await showHomes();
  });
};
element('sign-out').onclick = () => attempt(async () => {
  await session.signOut();
  window.location.reload();
});
if (store.load()) attempt(showHomes);
else element('sign-in').hidden = false;
