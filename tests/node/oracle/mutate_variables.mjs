// Changes of definitions and values of variables. Values are sent as text, so `1.0` stays `1.0`.
import { Kind, getNamedType, isEnumType, isInputObjectType, parseType, print, typeFromAST } from 'graphql';
import * as ast from './ast.mjs';
import { schema } from './schema.mjs';

/** JSON text that is sent as it is. */
export class Raw {
  constructor(text) {
    this.text = text;
  }
}

/** The text of a JSON value with `Raw` parts. */
export function jsonText(value) {
  if (value instanceof Raw) return value.text;
  if (Array.isArray(value)) return `[${value.map(jsonText).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([key, item]) => `${JSON.stringify(key)}:${jsonText(item)}`)
    .join(',')}}`;
}

const raw = (text) => new Raw(text);
const WRONG = {
  // A number without a fractional part is an integer, however it is written; JavaScript can't tell them apart.
  Int: ['1.0', '2147483648', '-2147483649', '1.5', '"1"', 'true', '[1]', '{}', '1e3', '-0'].map(raw),
  // `1.0` is no ID by the specification, but JavaScript can't tell it from `1`.
  ID: ['11', '-1', '0', '1.5', 'true', '["11"]', '{}', '9007199254740991', '""'].map(raw),
  String: ['1', 'true', '["x"]', '{}', '"\\ud83d\\udecf"', '"\\u0041"'].map(raw),
  Boolean: ['"true"', '0', '1', '[true]', '{}'].map(raw),
  enumeration: ['"light"', '"NOTHING"', '1', 'true', '["LIGHT"]', '"LIGHT"', '"OWNER"', '{}'].map(raw),
  input: [
    '1',
    '"x"',
    '[]',
    '[{}]',
    '{}',
    '{"x":1}',
    '{"homeId":11}',
    '{"deviceId":"101","type":"X","timeoutSeconds":1.0}',
  ].map(raw),
};
const CUSTOM = ['DateTime', 'MacAddress', 'JSON'];
const TYPES = [
  'Int',
  'Int!',
  'ID',
  'ID!',
  'String',
  'String!',
  'Boolean',
  'Boolean!',
  '[ID!]',
  '[ID]!',
  '[ID!]!',
  'Float',
  'DeviceFilter',
  'DeviceType',
  'HomeRole!',
  'SendCommandInput!',
  'Nothing',
  'Home',
  '[[Int]]',
  'Int!',
];

const definitions = (request) => ast.ofKind(request.ast, Kind.VARIABLE_DEFINITION);
const at = (change) => (random, request) => {
  const found = definitions(request);
  return found.length > 0 && change(random.pick(found), random, request) !== false;
};

function wrongValues(node) {
  const type = typeFromAST(schema, node.type);
  const named = type && getNamedType(type);
  if (!named || CUSTOM.includes(named.name)) return [];
  if (isEnumType(named)) return WRONG.enumeration;
  return isInputObjectType(named) ? WRONG.input : (WRONG[named.name] ?? []);
}

export const variableMutations = {
  'another value': at(({ node }, random, request) => {
    const wrong = wrongValues(node);
    if (wrong.length === 0) return false;
    request.variables[node.variable.name.value] = random.pick(wrong);
  }),
  'a value less': at(({ node }, random, request) => void delete request.variables[node.variable.name.value]),
  'null as value': at(({ node, parent }, random, request) => {
    // With a default, specifications differ on when a null for a directive is an error.
    if (print(node.type).startsWith('Boolean') && node.type.kind !== Kind.NON_NULL_TYPE) return false;
    request.variables[node.variable.name.value] = null;
  }),
  'a list of the value': at(({ node }, random, request) => {
    const key = node.variable.name.value;
    if (!(key in request.variables) || /DateTime|MacAddress|JSON|Input/.test(print(node.type))) return false;
    request.variables[key] = random.chance(0.5) ? [request.variables[key]] : [request.variables[key], null];
  }),
  'a value more': (random, request) => {
    request.variables[random.pick(['more', 'id', 'x0'])] ??= raw(random.pick(['1', '{"a":1}', 'null']));
    return true;
  },
  'no values': (random, request) => {
    request.sent = random.pick(['null', undefined]);
    return true;
  },
  'another type': at(({ node }, random) => {
    const named = print(node.type).replace(/[[\]!]/g, '');
    const near = [named, `${named}!`, `[${named}]`, `[${named}!]!`];
    node.type = parseType(random.chance(0.6) ? random.pick(near) : random.pick(TYPES));
  }),
  'a definition less': at((place) => ast.replace(place)),
  'a definition twice': at(({ node, parent }) => void parent.variableDefinitions.push(structuredClone(node))),
  'a definition more': (random, request) => {
    const operation = random.pick(ast.ofKind(request.ast, Kind.OPERATION_DEFINITION))?.node;
    if (!operation) return false;
    operation.variableDefinitions = [
      ...(operation.variableDefinitions ?? []),
      ast.variableDefinition('more', random.pick(TYPES)),
    ];
    return true;
  },
  'a default': at(({ node }, random) => {
    if (/DateTime|MacAddress|JSON/.test(print(node.type))) return false;
    const values = [
      ast.number('1'),
      ast.number('1.5'),
      ast.string('x'),
      ast.boolean(true),
      ast.nil(),
      ast.enumeration('LIGHT'),
      ast.object([]),
      ast.list([]),
      ast.variable('x0'),
    ];
    node.defaultValue = random.pick(values);
  }),
  'another name in the definition': at(
    ({ node }, random) => void (node.variable = ast.variable(random.pick(['id', 'y', 'X0']))),
  ),
  'a variable that only a directive of __typename uses': (random, request) => {
    const operation = random.pick(ast.ofKind(request.ast, Kind.OPERATION_DEFINITION))?.node;
    if (!operation || operation.operation === 'subscription') return false;
    operation.variableDefinitions = [
      ...(operation.variableDefinitions ?? []),
      ast.variableDefinition('only', 'Boolean!'),
    ];
    const directives = [ast.directive('include', [ast.argument('if', ast.variable('only'))])];
    operation.selectionSet.selections.push(ast.field('__typename', { directives }));
    request.variables.only = random.chance(0.5);
    return true;
  },
};
