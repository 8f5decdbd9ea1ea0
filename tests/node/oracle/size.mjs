// The size of a document with its fragments expanded. Limits of the server never decide a comparison: generated
// documents stay below them (src/graphql/limits).
import { getNamedType, print, SchemaMetaFieldDef, TypeMetaFieldDef } from 'graphql';
import { assumedItems, rootType } from './schema.mjs';

/** A little below the server's limits. */
const LIMITS = {
  selections: 800,
  levels: 9,
  aliases: 28,
  directives: 90,
  roots: 18,
  weight: 40_000,
  chain: 14,
  bytes: 12 << 10,
  tokens: 1_800,
};
/** Levels of introspection that count less. */
const INTROSPECTION_LEVELS = 4;
const META_FIELDS = { __schema: SchemaMetaFieldDef, __type: TypeMetaFieldDef };

/** Whether a generated request is below all limits. */
export function isWithinLimits(request) {
  const text = print(request.ast);
  if (text.length > LIMITS.bytes || text.split(/\W+|(?=\W)/).length > LIMITS.tokens) return false;
  const size = measure(request);
  return Object.entries(size).every(([what, value]) => value <= LIMITS[what]);
}

function measure({ ast, variables }) {
  const fragments = new Map(
    ast.definitions.filter((d) => d.kind === 'FragmentDefinition').map((d) => [d.name.value, d]),
  );
  const total = { selections: 0, levels: 0, aliases: 0, directives: 0, roots: 0, weight: 0, chain: 0 };
  const walk = (set, type, state) => {
    for (const selection of set.selections) {
      if (total.selections > LIMITS.selections) return;
      total.selections += 1;
      total.directives += selection.directives.length;
      if (selection.kind === 'Field') {
        enter(selection, type, state);
      } else if (selection.kind === 'InlineFragment') {
        walk(selection.selectionSet, type, state);
      } else {
        total.chain = Math.max(total.chain, state.chain + 1);
        walk(fragments.get(selection.name.value).selectionSet, type, { ...state, chain: state.chain + 1 });
      }
    }
  };
  const enter = (selection, type, { level, weight, chain }) => {
    if (level === 1) total.roots += 1;
    if (selection.alias) total.aliases += 1;
    const name = selection.name.value;
    total.levels = Math.max(total.levels, type.name.startsWith('__') ? level - INTROSPECTION_LEVELS : level);
    total.weight += weight;
    if (!selection.selectionSet) return;
    const field = META_FIELDS[name] ?? type.getFields()[name];
    const items = assumedItems(type, field, pageSize(selection, variables));
    walk(selection.selectionSet, getNamedType(field.type), { level: level + 1, weight: weight * (items ?? 1), chain });
  };
  for (const definition of ast.definitions) {
    if (definition.kind !== 'OperationDefinition') continue;
    total.roots = 0;
    walk(definition.selectionSet, rootType(definition.operation), { level: 1, weight: 1, chain: 0 });
  }
  return total;
}

/** The argument `first`: undefined without one, and the largest page if it is not known here. */
function pageSize(selection, variables) {
  const value = selection.arguments.find((argument) => argument.name.value === 'first')?.value;
  if (value === undefined || value.kind === 'NullValue') return undefined;
  if (value.kind === 'IntValue') return Number(value.value);
  return variables[value.name?.value] ?? 500;
}
