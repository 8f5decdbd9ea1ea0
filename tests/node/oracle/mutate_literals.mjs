// Changes of literals: other kinds, wrong numbers, unknown, missing and repeated input fields. Literals of custom
// scalars stay as they are, because graphql-js accepts anything there and our resolvers do not.
import {
  getNamedType,
  isInputObjectType,
  isListType,
  isScalarType,
  Kind,
  TypeInfo,
  visit,
  visitWithTypeInfo,
} from 'graphql';
import * as ast from './ast.mjs';
import { schema } from './schema.mjs';

const CUSTOM = ['DateTime', 'MacAddress', 'JSON'];
const LITERALS = [
  ast.number('1'),
  ast.number('-0'),
  ast.number('1.0'),
  ast.number('1e2'),
  ast.number('2147483647'),
  ast.number('2147483648'),
  ast.number('-2147483649'),
  ast.number('99999999999999999999'),
  ast.string('1'),
  ast.string('MEMBER'),
  ast.string('LIGHT'),
  ast.string('true'),
  ast.string(''),
  ast.boolean(true),
  ast.nil(),
  ast.enumeration('LIGHT'),
  ast.enumeration('light'),
  ast.enumeration('OWNER'),
  ast.list([]),
  ast.list([ast.nil()]),
  ast.list([ast.string('1')]),
  ast.list([ast.list([ast.number('1')])]),
  ast.object([]),
  ast.object([['x', ast.number('1')]]),
];

/** Values of arguments and input fields with their type; not the ones within custom scalars. */
function literals(request) {
  const found = [];
  const info = new TypeInfo(schema);
  const isCustom = (type) => type && isScalarType(getNamedType(type)) && CUSTOM.includes(getNamedType(type).name);
  const enter = (node) => {
    const type = info.getInputType();
    if (isCustom(type)) return false;
    if ('value' in node && node.value?.kind) found.push({ holder: node, key: 'value', type });
    if (node.defaultValue) found.push({ holder: node, key: 'defaultValue', type });
    return undefined;
  };
  const visitor = { Argument: enter, ObjectField: enter, VariableDefinition: enter };
  visit(request.ast, visitWithTypeInfo(info, visitor));
  return found;
}

const at = (wanted, change) => (random, request) => {
  const found = literals(request).filter(({ holder, key, type }) => wanted(holder[key], type));
  if (found.length === 0) return false;
  const { holder, key, type } = random.pick(found);
  holder[key] = change(random, holder[key], type, request);
  return true;
};
const isObject = (value) => value.kind === Kind.OBJECT;
const any = () => true;

export const literalMutations = {
  'another literal': at(any, (random) => structuredClone(random.pick(LITERALS))),
  'a list of it': at(any, (random, value) => ast.list(random.chance(0.5) ? [value] : [value, value])),
  'a string of it': at(
    (value) => value.kind === Kind.ENUM || value.kind === Kind.INT || value.kind === Kind.BOOLEAN,
    (random, value) => ast.string(String(value.value)),
  ),
  'null for it': at(any, () => ast.nil()),
  'an unknown input field': at(isObject, (random, value) => ({
    ...value,
    fields: [...value.fields, ...ast.object([[random.pick(['x', 'Type', 'roomID']), ast.number('1')]]).fields],
  })),
  'an input field less': at(
    (value) => isObject(value) && value.fields.length > 0,
    (random, value) => ({ ...value, fields: value.fields.filter((field) => field !== random.pick(value.fields)) }),
  ),
  'an input field twice': at(
    (value) => isObject(value) && value.fields.length > 0,
    (random, value) => ({ ...value, fields: [...value.fields, structuredClone(random.pick(value.fields))] }),
  ),
  'an empty object': at(
    (_, type) => type && isInputObjectType(getNamedType(type)),
    () => ast.object([]),
  ),
  'an item that is null': at(
    (value, type) => type && isListType(type) && value.kind === Kind.LIST,
    (random, value) => ast.list([...value.values, ast.nil()]),
  ),
  'a variable for it': at(any, (random, value, type, request) => {
    const names = ast.ofKind(request.ast, Kind.VARIABLE_DEFINITION).map(({ node }) => node.variable.name.value);
    return ast.variable(random.pick([...names, 'missing']));
  }),
};
