// One copy of everything a viewer may read, taken by plain queries: every field that may be refused by itself.
import { getNamedType, isLeafType } from 'graphql';
import { schema } from './schema.mjs';

/** The fields of a type that have no selection of their own. */
const leaves = (type) =>
  Object.values(schema.getType(type).getFields())
    .filter((field) => isLeafType(getNamedType(field.type)))
    .map((field) => field.name)
    .join(' ');
/** The fields that are objects without an identity: written whole. */
const whole = (type, field) => `${field}{${leaves(getNamedType(schema.getType(type).getFields()[field].type).name)}}`;

const reading = () => `${leaves('Telemetry')} ${whole('Telemetry', 'sensors')} device{id}`;
const user = () => `${leaves('User')} homes{id}`;
const config = () => `${leaves('DeviceConfig')} device{id} createdBy{${user()}}`;
const command = () => `${leaves('Command')} device{id} supersededBy{id} requestedBy{${user()}}`;
/** What is read of the fields that are objects. Pages are read whole. */
const SELECTIONS = {
  'Home.members': () => `members{${leaves('HomeMember')} user{${user()}}}`,
  'Home.invitations': () => `invitations{${leaves('OpenInvitation')}}`,
  'Home.integrationTokens': () => `integrationTokens{${leaves('IntegrationToken')} createdBy{${user()}}}`,
  'Home.rooms': () => `rooms{${leaves('Room')} home{id} devices{id}}`,
  'Home.devices': () => page('devices', 'id'),
  'Device.topics': () => whole('Device', 'topics'),
  'Device.state': () => whole('Device', 'state'),
  'Device.storageToday': () => whole('Device', 'storageToday'),
  'Device.home': () => 'home{id}',
  'Device.room': () => 'room{id}',
  'Device.telemetry': () => page('telemetry', reading()),
  'Device.latestTelemetry': () => `latestTelemetry{${reading()}}`,
  'Device.commands': () => page('commands', command()),
  'Device.config': () => `config{${config()}}`,
  'Device.configHistory': () => page('configHistory', config()),
};
const page = (field, selection, args = '') => `${field}(${args}first:500){edges{cursor node{${selection}}}}`;

/** What the server refused. Resolvers throw it. */
export class Refused extends Error {}

/** Asks for documents; what is refused is an object of the class above. */
class Reader {
  constructor(post) {
    this.post = post;
  }

  /** The data, with a `Refused` in each place where an error has left null; or the `Refused` alone. */
  async ask(query) {
    const { data, errors = [] } = await this.post(query);
    const holder = { data: data ?? null };
    for (const { message, path = [] } of errors) {
      let [object, key] = [holder, 'data'];
      for (const next of path) if (object[key] !== null) [object, key] = [object[key], next];
      object[key] = new Refused(message);
    }
    return holder.data;
  }

  async must(query) {
    const data = await this.ask(query);
    const refused = [data, ...Object.values(data)].find((value) => value instanceof Refused);
    if (refused) throw new Error(`the snapshot's query was refused: ${query}: ${refused.message}`);
    return data;
  }

  /** The object that a root field selects, or why it was refused. */
  async one(root, selection) {
    const data = await this.ask(`{${root}{${selection}}}`);
    return data instanceof Refused ? data : Object.values(data)[0];
  }

  /** A field of that object, or why it was refused. */
  async field(root, name, selection) {
    const object = await this.one(root, selection);
    return object instanceof Refused ? object : object[name];
  }

  /** All fields of a home or a device. */
  async object(root, type) {
    const fields = Object.values(schema.getType(type).getFields());
    const isLeaf = (field) => isLeafType(getNamedType(field.type));
    const all = await this.one(root, leaves(type));
    const found = all instanceof Refused ? {} : all;
    // A leaf that is refused and can't be null takes the others with it: then each is asked for alone.
    const parts = fields.filter((field) => (isLeaf(field) ? found !== all : SELECTIONS[`${type}.${field.name}`]));
    const read = async ({ name }) => {
      found[name] = await this.field(root, name, SELECTIONS[`${type}.${name}`]?.() ?? name);
    };
    await Promise.all(parts.map(read));
    return found;
  }
}

/** Takes the snapshot of one viewer. `post` sends a document and returns the answer. `known` are ids of devices that the
 * viewer may not be able to list. */
export async function takeSnapshot(post, known = []) {
  const reader = new Reader(post);
  const { me } = await reader.must(`{me{${user()}}}`);
  me.sessions = await reader.field('me', 'sessions', `sessions{${leaves('OpenSession')}}`);
  const homes = new Map();
  for (const { id } of (await reader.must('{homes{id}}')).homes) {
    const home = await reader.object(`home(id:"${id}")`, 'Home');
    for (const [field, type] of [
      ['auditLog', 'AuditEntry'],
      ['rejectedMessages', 'RejectedMessage'],
    ]) {
      const selection = leaves(type) + (type === 'AuditEntry' ? ` actorUser{${user()}}` : '');
      const data = await reader.ask(`{${page(field, selection, `homeId:"${id}",`)}}`);
      home[field] = data instanceof Refused ? data : data[field];
    }
    home.sorted = {};
    for (const order of ['CREATED_AT DESC', 'NAME ASC', 'NAME DESC', 'LAST_SEEN_AT ASC', 'LAST_SEEN_AT DESC']) {
      const [field, direction] = order.split(' ');
      const args = `homeId:"${id}",orderBy:{field:${field},direction:${direction}},`;
      const data = await reader.ask(`{${page('devices', 'id', args)}}`);
      home.sorted[order] = data instanceof Refused ? data : data.devices;
    }
    homes.set(id, home);
  }
  const listed = [...homes.values()].flatMap((home) => home.devices.edges?.map(({ node }) => node.id) ?? []);
  const devices = new Map();
  for (const id of new Set([...listed, ...known])) {
    const found = await reader.one(`device(id:"${id}")`, 'id');
    if (!(found instanceof Refused)) devices.set(id, await reader.object(`device(id:"${id}")`, 'Device'));
  }
  for (const home of homes.values()) {
    const lists = [home.devices, ...Object.values(home.sorted)];
    for (const edge of lists.flatMap((list) => list.edges ?? [])) edge.node = devices.get(edge.node.id);
  }
  return { me, homes, devices };
}
