// Short constructors of the syntax trees that graphql-js prints.
import { Kind, parseType } from 'graphql';

export const name = (value) => ({ kind: Kind.NAME, value });
export const variable = (text) => ({ kind: Kind.VARIABLE, name: name(text) });
export const string = (value, block = false) => ({ kind: Kind.STRING, value, block });
export const number = (text) => ({ kind: /^-?\d+$/.test(text) ? Kind.INT : Kind.FLOAT, value: String(text) });
export const boolean = (value) => ({ kind: Kind.BOOLEAN, value });
export const enumeration = (value) => ({ kind: Kind.ENUM, value });
export const nil = () => ({ kind: Kind.NULL });
export const list = (values) => ({ kind: Kind.LIST, values });
export const object = (entries) => ({
  kind: Kind.OBJECT,
  fields: entries.map(([key, value]) => ({ kind: Kind.OBJECT_FIELD, name: name(key), value })),
});
export const argument = (key, value) => ({ kind: Kind.ARGUMENT, name: name(key), value });
export const directive = (key, args = []) => ({ kind: Kind.DIRECTIVE, name: name(key), arguments: args });
export const selectionSet = (selections) => ({ kind: Kind.SELECTION_SET, selections });
export const namedType = (text) => ({ kind: Kind.NAMED_TYPE, name: name(text) });

export const field = (key, { alias, args = [], directives = [], selections } = {}) => ({
  kind: Kind.FIELD,
  name: name(key),
  alias: alias === undefined ? undefined : name(alias),
  arguments: args,
  directives,
  selectionSet: selections && selectionSet(selections),
});
export const spread = (key, directives = []) => ({ kind: Kind.FRAGMENT_SPREAD, name: name(key), directives });
export const inline = (type, selections, directives = []) => ({
  kind: Kind.INLINE_FRAGMENT,
  typeCondition: type === null ? undefined : namedType(type),
  directives,
  selectionSet: selectionSet(selections),
});
export const fragment = (key, type, selections) => ({
  kind: Kind.FRAGMENT_DEFINITION,
  name: name(key),
  typeCondition: namedType(type),
  directives: [],
  selectionSet: selectionSet(selections),
});
export const variableDefinition = (key, type, defaultValue) => ({
  kind: Kind.VARIABLE_DEFINITION,
  variable: variable(key),
  type: parseType(type),
  defaultValue,
  directives: [],
});
export const operation = (kind, key, variableDefinitions, selections) => ({
  kind: Kind.OPERATION_DEFINITION,
  operation: kind,
  name: key === null ? undefined : name(key),
  variableDefinitions,
  directives: [],
  selectionSet: selectionSet(selections),
});
export const document = (definitions) => ({ kind: Kind.DOCUMENT, definitions });

/** Every node of a tree with its parent and the key (and index) under which the parent has it. */
export function nodes(tree, wanted = () => true) {
  const found = [];
  const walk = (node, parent, key, index) => {
    if (wanted(node)) found.push({ node, parent, key, index });
    for (const [name, value] of Object.entries(node)) {
      if (name === 'loc') continue;
      if (Array.isArray(value)) value.forEach((item, at) => item?.kind && walk(item, node, name, at));
      else if (value?.kind) walk(value, node, name, null);
    }
  };
  walk(tree, null, null, null);
  return found;
}

export const ofKind = (tree, ...kinds) => nodes(tree, (node) => kinds.includes(node.kind));

/** Puts another node in a node's place, or removes it. */
export function replace({ parent, key, index }, ...replacements) {
  if (index === null) parent[key] = replacements[0];
  else parent[key].splice(index, 1, ...replacements);
}
