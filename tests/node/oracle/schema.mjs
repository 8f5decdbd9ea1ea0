// The schema of the repository, as graphql-js builds it from the text.
import { readFileSync } from 'node:fs';
import { buildSchema, specifiedRules, specifiedScalarTypes } from 'graphql';

export const sdl = readFileSync(new URL('../../../schema.graphql', import.meta.url), 'utf8');
export const schema = buildSchema(sdl);

/** Takes over the server's descriptions of the built-in scalars, which every implementation words itself. */
export async function describeScalars(post) {
  for (const scalar of specifiedScalarTypes) {
    const { data } = await post(`{__type(name:"${scalar.name}"){description}}`);
    scalar.description = data.__type?.description;
  }
}

/** The rules of the specification. graphql-js adds a limit of its own for introspection, which is none of them. */
export const rules = specifiedRules.filter((rule) => rule.name !== 'MaxIntrospectionDepthRule');

export const rootType = (kind) =>
  ({ query: schema.getQueryType(), mutation: schema.getMutationType(), subscription: schema.getSubscriptionType() })[
    kind
  ];

/** Items that the server assumes for a list without pages (`list_complexity` in src/graphql), 10 unless it is here. */
const ASSUMED_ITEMS = { 'Room.devices': 20, 'Mutation.registerDevices': 50 };
const CONNECTION_FIELDS = ['nodes', 'edges'];

/** How many items the server assumes for a field, or null if it is no list of objects. `first` is its argument. */
export function assumedItems(parent, field, first) {
  if (field.args.some((arg) => arg.name === 'first')) {
    const size = first ?? field.args.find((arg) => arg.name === 'first').defaultValue;
    return Number.isInteger(size) && size >= 0 && size <= 500 ? size : 500;
  }
  const isList = String(field.type).startsWith('[');
  if (!isList || CONNECTION_FIELDS.includes(field.name) || parent.name.startsWith('__')) return null;
  return ASSUMED_ITEMS[`${parent.name}.${field.name}`] ?? 10;
}
