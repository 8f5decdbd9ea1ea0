// Values of input types: literals for documents and JSON for variables. Scalars of our own get values that every
// resolver accepts, because to graphql-js a custom scalar is anything.
import { getNullableType, isEnumType, isInputObjectType, isListType, isNonNullType } from 'graphql';
import * as ast from './ast.mjs';

const TEXTS = [
  'x',
  '',
  'lamp',
  'lamp_1',
  'LAMP',
  ' Lamp ',
  '🛏',
  'Tür',
  '"two"',
  '24:6f:28',
  'node',
  'a\\b',
  'line\nline',
  '$x',
  '{a}',
];
const ABSENT_IDS = ['999', '0', '-1', 'abc', '', '007', '18446744073709551616'];
const JSON_VALUES = [{}, { a: 1 }, { power: true, list: [1, null, 'x'] }, [], 'text', 5, 1.5, true, { b: { c: [{}] } }];
const MACS = ['24:6F:28:AA:BB:CC', '24:6f:28:00:00:01', '24-6f-28-aa-bb-cc', '246F28AABBCC'];

/** The values that fit an argument or input field of this name, taken from a snapshot. */
export class Pools {
  constructor(snapshots) {
    const all = (read) => [...new Set(snapshots.flatMap(read).filter((value) => value != null && value !== ''))];
    const homes = (snapshot) => [...snapshot.homes.values()];
    const devices = (snapshot) => [...snapshot.devices.values()];
    const edges = (page) => page?.edges ?? [];
    const paged = ['telemetry', 'commands', 'configHistory'];
    this.ids = {
      home: all((s) => [...s.homes.keys()]),
      device: all((s) => [...s.devices.keys()]),
      room: all((s) => homes(s).flatMap((home) => (home.rooms.map ? home.rooms.map((room) => room.id) : []))),
      command: all((s) => devices(s).flatMap((device) => edges(device.commands).map(({ node }) => node.id))),
    };
    this.cursors = Object.fromEntries([
      ...paged.map((name) => [
        name,
        all((s) => devices(s).flatMap((device) => edges(device[name]).map((e) => e.cursor))),
      ]),
      ['devices', all((s) => homes(s).flatMap((home) => edges(home.devices).map((edge) => edge.cursor)))],
      ['auditLog', all((s) => homes(s).flatMap((home) => edges(home.auditLog).map((edge) => edge.cursor)))],
      ['rejectedMessages', all((s) => homes(s).flatMap((home) => edges(home.rejectedMessages).map((e) => e.cursor)))],
    ]);
    this.readings = all((s) => devices(s).flatMap((device) => edges(device.telemetry).map(({ node }) => node.id)));
    this.times = all((s) => devices(s).flatMap((device) => edges(device.telemetry).map(({ node }) => node.recordedAt)));
  }

  /** An id for `place`, such as `Query.device.id` or `SendCommandInput.deviceId`. */
  id(random, place) {
    if (random.chance(0.05)) return random.pick(ABSENT_IDS);
    if (/^Subscription\.\w+\.after(Id)?$/.test(place)) return random.pick(this.readings);
    const what = /(home|device|room|command)s?(\.id|Ids?)?$/i.exec(place)?.[1].toLowerCase();
    return random.pick(this.ids[what] ?? this.ids.device);
  }

  scalar(random, type, place) {
    switch (type) {
      case 'ID':
        return this.id(random, place);
      case 'Int':
        if (place.endsWith('.first')) return random.chance(0.05) ? random.pick([-1, 501]) : random.int(0, 6);
        return random.pick([0, 1, 2, 3, 30, -1, 2147483647, -2147483648]);
      case 'Boolean':
        return random.chance(0.5);
      case 'DateTime':
        return random.chance(0.8) ? random.pick(this.times) : '2026-06-01T02:10:00.25+02:00';
      case 'JSON':
        return random.pick(JSON_VALUES);
      case 'MacAddress':
        return random.pick(MACS);
      default: {
        const cursors = place.endsWith('.after') && this.cursors[place.split('.').at(-2)];
        if (cursors) return random.chance(0.05) ? 'no cursor' : random.pick(cursors);
        return random.pick(TEXTS);
      }
    }
  }
}

/** A value of the type as JSON. `place` is where it goes, as for [Pools.id]. */
export function jsonValue(random, pools, type, place) {
  if (isNonNullType(type)) return jsonValue(random, pools, type.ofType, place);
  if (isListType(type)) {
    const item = () => jsonValue(random, pools, type.ofType, place);
    // A value that is no list stands for a list of one.
    return random.chance(0.15) ? item() : Array.from({ length: random.int(0, 3) }, item);
  }
  if (isEnumType(type)) return random.pick(type.getValues()).name;
  if (!isInputObjectType(type)) return pools.scalar(random, type.name, place);
  const value = {};
  for (const field of random.shuffle(Object.values(type.getFields()))) {
    const isRequired = isNonNullType(field.type) && field.defaultValue === undefined;
    if (!isRequired && random.chance(0.6)) continue;
    const isNull = !isNonNullType(field.type) && random.chance(0.1);
    value[field.name] = isNull ? null : jsonValue(random, pools, field.type, `${type.name}.${field.name}`);
  }
  return value;
}

/** A literal of any value: a JSON scalar's objects and lists. */
export function freeLiteral(value) {
  if (value === null) return ast.nil();
  if (typeof value === 'string') return ast.string(value);
  if (typeof value === 'boolean') return ast.boolean(value);
  if (typeof value === 'number') return ast.number(String(value));
  if (Array.isArray(value)) return ast.list(value.map(freeLiteral));
  return ast.object(Object.entries(value).map(([key, item]) => [key, freeLiteral(item)]));
}

/** A literal of the type. `variable` may put a variable in its place: it returns one, or null. */
export function literal(random, pools, type, place, variable = () => null) {
  const named = variable(type, place);
  if (named) return named;
  if (!isNonNullType(type) && random.chance(0.05)) return ast.nil();
  return presentLiteral(random, pools, getNullableType(type), place, variable);
}

/** A literal that is not null. */
function presentLiteral(random, pools, type, place, variable) {
  if (isListType(type)) {
    const item = () => literal(random, pools, type.ofType, place, variable);
    if (random.chance(0.15)) return presentLiteral(random, pools, getNullableType(type.ofType), place, variable);
    return ast.list(Array.from({ length: random.int(0, 3) }, item));
  }
  if (isEnumType(type)) return ast.enumeration(random.pick(type.getValues()).name);
  if (isInputObjectType(type)) {
    const fields = random.shuffle(Object.values(type.getFields())).filter((field) => {
      const isRequired = isNonNullType(field.type) && field.defaultValue === undefined;
      return isRequired || random.chance(0.4);
    });
    const entry = (field) => [field.name, literal(random, pools, field.type, `${type.name}.${field.name}`, variable)];
    return ast.object(fields.map(entry));
  }
  const value = pools.scalar(random, type.name, place);
  if (type.name === 'ID' && /^(0|-?[1-9]\d*)$/.test(value) && random.chance(0.4)) return ast.number(value);
  if (typeof value === 'string') return ast.string(value, random.chance(0.1) && !/[\\"]|^\s|\s$/.test(value));
  return freeLiteral(value);
}
