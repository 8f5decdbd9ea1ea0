// The API's fields over a snapshot, for graphql-js: paging, filters, and what the server refuses.
import { Refused } from './snapshot.mjs';

const MAX_PAGE = 500;
/** Cursors of lists whose position is more than an id. */
const PATTERNS = { telemetry: /^(-?\d+)\.(\d+)$/, allDevices: /^devices:(\d+)\.(\d+)$/ };

/** The numbers that a cursor stands for: the position in its list. */
function position(cursor, list) {
  const bytes = Buffer.from(cursor, 'base64url');
  // Node ignores what is no base64.
  const text = bytes.toString('base64url') === cursor ? bytes.toString('latin1') : '';
  const pattern = PATTERNS[list] ?? /^[a-z]+:(\d+)$/;
  const match = pattern.exec(text);
  if (!match) throw new Refused(`after: ${cursor} is no cursor`);
  return match.slice(1).map(Number);
}

const compare = (a, b) => a.map((part, at) => part - b[at]).find((difference) => difference !== 0) ?? 0;

/** The number of an item of a sorted list, whose cursors are taken as they are. */
function sortedPosition(all, cursor) {
  const at = all.edges.findIndex((edge) => edge.cursor === cursor);
  if (at < 0) throw new Refused(`after: ${cursor} is no cursor of this list`);
  return at;
}

/** A part of a page that the snapshot has whole, newest first unless the list is ascending. */
function page(all, list, { first, after }, passes = () => true) {
  if (all instanceof Refused) throw all;
  const size = first ?? null;
  if (size !== null && (size < 0 || size > MAX_PAGE)) throw new Refused('first is out of range');
  const from = after == null ? null : list === 'sorted' ? sortedPosition(all, after) : position(after, list);
  const isAfter = ({ cursor }) => {
    if (from === null) return true;
    if (list === 'sorted') return sortedPosition(all, cursor) > from;
    const order = compare(position(cursor, list), from);
    return list === 'devices' || list === 'allDevices' ? order > 0 : order < 0;
  };
  const found = all.edges.filter((edge) => isAfter(edge) && passes(edge));
  const edges = found.slice(0, size ?? DEFAULT_SIZES[list]);
  return {
    edges,
    nodes: edges.map((edge) => edge.node),
    pageInfo: {
      hasPreviousPage: from !== null,
      hasNextPage: found.length > edges.length,
      startCursor: edges[0]?.cursor ?? null,
      endCursor: edges.at(-1)?.cursor ?? null,
    },
  };
}

const DEFAULT_SIZES = {
  sorted: 50,
  allDevices: 50,
  devices: 50,
  telemetry: 100,
  commands: 50,
  configHistory: 20,
  auditLog: 50,
  rejectedMessages: 50,
};

/** Microseconds since 1970 of an RFC 3339 text. */
function micros(text) {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text)) throw new Refused(`${text} is no time`);
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? '';
  return Date.parse(text.replace(/\.\d+/, '')) * 1000 + Number(fraction.padEnd(6, '0').slice(0, 6));
}

/** A page of a home's devices. */
function devicesOf(home, args) {
  const { field, direction } = args.orderBy ?? {};
  const order = !field || (field === 'CREATED_AT' && direction === 'ASC') ? '' : `${field} ${direction}`;
  const passes = passesFilter(args.filter);
  if (!order) return page(home.devices, 'devices', args, passes);
  if (home.devices instanceof Refused) throw home.devices;
  return page(home.sorted[order], 'sorted', args, passes);
}

/** The devices of all homes, home by home. */
function allDevices(homes) {
  const cursor = ({ node }, home) => Buffer.from(`devices:${home.id}.${node.id}`).toString('base64url');
  const edges = [...homes.values()].flatMap((home) => {
    if (home.devices instanceof Refused) throw home.devices;
    return home.devices.edges.map((edge) => ({ ...edge, cursor: cursor(edge, home) }));
  });
  return { edges };
}

/** A MAC address in the spelling of responses. */
function mac(text) {
  const digits = /^([0-9a-f]{2}([:-]?)){6}$/i.test(text) ? text.replace(/[:-]/g, '') : '';
  return digits.toUpperCase().replace(/(..)(?=.)/g, '$1:');
}

function passesFilter(filter) {
  const { roomId, type, online, batteryBelow, lastSeenBefore } = filter ?? {};
  const types = filter?.types?.length ? filter.types : null;
  const before = lastSeenBefore == null ? null : micros(lastSeenBefore);
  const search = filter?.search?.trim().toLowerCase();
  if (/\p{Cc}/u.test(search)) throw new Refused('search has a control character');
  return ({ node }) =>
    (roomId == null || node.room?.id === roomId) &&
    (type == null || node.type === type) &&
    (types === null || types.includes(node.type)) &&
    (batteryBelow == null || (node.batteryLevel !== null && node.batteryLevel < batteryBelow)) &&
    (before === null || node.lastSeenAt === null || micros(node.lastSeenAt) < before) &&
    (online == null || node.online === online) &&
    (!search || [node.name, node.key, node.macAddress].join(' ').toLowerCase().includes(search));
}

function passesRange({ from, to }) {
  const [low, high] = [from, to].map((at) => (at == null ? null : micros(at)));
  return ({ cursor }) => {
    const [at] = position(cursor, 'telemetry');
    return (low === null || at >= low) && (high === null || at < high);
  };
}

/** A function that resolves every field of the schema, to be the `fieldResolver` of graphql-js. */
export function resolverOver({ me, homes, devices }) {
  const byId = (lists) => new Map(lists.flatMap((list) => list.map((object) => [object.id, object])));
  const readable = (list) => (list instanceof Refused ? [] : list);
  const rooms = byId([...homes.values()].map((home) => readable(home.rooms)));
  const commands = byId([...devices.values()].map((one) => (one.commands.edges ?? []).map(({ node }) => node)));
  const find = (map, id) => {
    if (!map.has(id)) throw new Refused(`there is no ${id}`);
    return map.get(id);
  };
  const findIn = (homeId, isWanted) => {
    const found = [...devices.values()].find((device) => device.home.id === homeId && isWanted(device));
    if (!found) throw new Refused('there is no such device');
    return found;
  };
  const homePage = (list) => (_, args) => page(find(homes, args.homeId)[list], list, args);
  const devicePage = (list) => (device, args) => page(device[list], list, args);
  const device = ({ device }) => devices.get(device.id);
  const home = ({ home }) => homes.get(home.id);

  const resolvers = {
    Query: {
      me: () => me,
      homes: () => [...homes.values()],
      home: (_, { id }) => find(homes, id),
      device: (_, { id }) => find(devices, id),
      command: (_, { id }) => find(commands, id),
      devices: (_, args) => {
        if (args.homeId == null && args.orderBy != null) throw new Refused('orderBy needs homeId');
        // An integration has no sessions, and one home only.
        if (args.homeId == null && me.sessions instanceof Refused) throw me.sessions;
        if (args.homeId == null) return page(allDevices(homes), 'allDevices', args, passesFilter(args.filter));
        return devicesOf(find(homes, args.homeId), args);
      },
      deviceByKey: (_, { homeId, key }) => findIn(homeId, (device) => device.key === key),
      deviceByMacAddress: (_, { homeId, macAddress }) => findIn(homeId, (device) => device.macAddress === mac(macAddress)),
      auditLog: homePage('auditLog'),
      rejectedMessages: homePage('rejectedMessages'),
    },
    Home: { devices: devicesOf },
    Room: { home, devices: (room) => room.devices.map(({ id }) => devices.get(id)) },
    Device: {
      home,
      room: ({ room }) => (room === null || room instanceof Refused ? room : rooms.get(room.id)),
      telemetry: (device, args) => page(device.telemetry, 'telemetry', args, passesRange(args)),
      commands: (device, args) =>
        page(device.commands, 'commands', args, ({ node }) => args.status == null || node.status === args.status),
      configHistory: devicePage('configHistory'),
    },
    Telemetry: { device },
    Command: { device, supersededBy: ({ supersededBy }) => supersededBy && commands.get(supersededBy.id) },
    DeviceConfig: { device },
    User: {
      homes: (user) => user.homes.map(({ id }) => homes.get(id)),
      sessions: (user) => {
        if (user.id !== me.id) throw new Refused('sessions of another user');
        return me.sessions;
      },
    },
  };
  return (source, args, _, { parentType, fieldName }) => {
    const resolve = resolvers[parentType.name]?.[fieldName];
    const value = resolve ? resolve(source, args) : source[fieldName];
    if (value instanceof Refused) throw value;
    return value;
  };
}

/** The objects that a subscription starts with, or null if a snapshot does not tell them. */
export function firstEvents({ homes, devices }, field, args) {
  const { deviceId, homeId, commandId } = args;
  const after = args.afterId ?? args.after;
  if ([deviceId, homeId, commandId].filter((id) => id != null).length !== 1) return null;
  const all = [...devices.values()];
  const chosen =
    homeId == null ? all.filter(({ id }) => id === deviceId) : all.filter(({ home }) => home.id === homeId);
  if (commandId != null) {
    const commands = all.flatMap((device) => (device.commands.edges ?? []).map(({ node }) => node));
    return commands.filter(({ id }) => id === commandId);
  }
  const isReadable = chosen.every(({ name, telemetry }) => !(name instanceof Refused || telemetry instanceof Refused));
  if (!isReadable || (homeId != null && !homes.has(homeId))) return null;
  if (/^(deviceStatus|(homeD|d)eviceUpdates)$/.test(field)) return chosen;
  if (!/^((home|device)T|t)elemetry$/.test(field) || !/^[1-9]\d{0,17}$/.test(after)) return null;
  const readings = chosen.flatMap((device) => device.telemetry.edges.map(({ node }) => node));
  return readings.filter(({ id }) => Number(id) > Number(after)).sort((a, b) => a.id - b.id);
}
