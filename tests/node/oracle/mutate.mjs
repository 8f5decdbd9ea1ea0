// Changes of a syntax tree that mostly make it invalid. Each takes the random numbers and the request, and returns
// false if the document has no place for it.
import { Kind } from 'graphql';
import * as ast from './ast.mjs';
import { literalMutations } from './mutate_literals.mjs';
import { variableMutations } from './mutate_variables.mjs';

const NAMES = [
  'id',
  'nam',
  'Name',
  'telemetri',
  'device',
  'createdAt',
  '__schema',
  '__typename',
  'nodes',
  'x',
  'members',
];
const TYPES = ['Home', 'Device', 'Query', 'Mutation', 'String', 'HomeRole', 'DeviceFilter', 'Nothing', 'home', 'User'];

/** Something of the request's tree, or undefined. */
const some = (random, request, ...kinds) => {
  const found = ast.ofKind(request.ast, ...kinds);
  return found.length > 0 ? random.pick(found) : undefined;
};
/** Changes a random node of these kinds, if there is one. */
const at = (kinds, change) => (random, request) => {
  const place = some(random, request, ...[kinds].flat());
  return place !== undefined && change(place, random, request) !== false;
};
const selections = [Kind.FIELD, Kind.INLINE_FRAGMENT, Kind.FRAGMENT_SPREAD];

const fields = {
  'another field': at(Kind.FIELD, ({ node }, random) => void (node.name = ast.name(random.pick(NAMES)))),
  'another field with its own name as alias': at(Kind.FIELD, ({ node }, random) => {
    node.alias = ast.name(node.name.value);
    node.name = ast.name(random.pick(NAMES));
  }),
  'another alias': at(Kind.FIELD, ({ node }, random) => void (node.alias = ast.name(random.pick(NAMES)))),
  'no sub-selection': at(Kind.FIELD, ({ node }) => {
    if (!node.selectionSet) return false;
    node.selectionSet = undefined;
  }),
  'sub-selection of a leaf': at(Kind.FIELD, ({ node }, random) => {
    if (node.selectionSet) return false;
    node.selectionSet = ast.selectionSet([ast.field(random.pick(NAMES))]);
  }),
  'the same key again, with something else': at(Kind.FIELD, ({ node, parent }, random) => {
    const key = (node.alias ?? node.name).value;
    const twin = structuredClone(node);
    const change = random.pick(['name', 'arguments', 'selections', 'nothing']);
    if (change === 'name') Object.assign(twin, { alias: ast.name(key), name: ast.name(random.pick(NAMES)) });
    if (change === 'arguments') twin.arguments = random.chance(0.5) ? [] : [ast.argument('first', ast.number('7'))];
    if (change === 'selections')
      twin.selectionSet = twin.selectionSet && ast.selectionSet([ast.field('id', { alias: random.pick(NAMES) })]);
    const added = random.chance(0.4) ? ast.inline(null, [twin]) : twin;
    parent.selections.splice(random.int(0, parent.selections.length), 0, added);
  }),
  'a selection from elsewhere': at(selections, ({ parent }, random, request) => {
    const other = some(random, request, ...selections).node;
    parent.selections.push(structuredClone(other));
  }),
  'a selection less': at(selections, (place) => {
    if (place.parent.selections.length < 2) return false;
    ast.replace(place);
  }),
};

const args = {
  'unknown argument': at(Kind.FIELD, ({ node }, random) => {
    node.arguments = [
      ...(node.arguments ?? []),
      ast.argument(random.pick(['frist', 'id', 'homeid', 'x']), ast.number('1')),
    ];
  }),
  'argument less': at([Kind.ARGUMENT, Kind.OBJECT_FIELD], (place) => ast.replace(place)),
  'argument twice': at([Kind.ARGUMENT, Kind.OBJECT_FIELD], ({ node, parent, key }, random) => {
    const twin = structuredClone(node);
    if (random.chance(0.5)) twin.value = random.pick([ast.number('3'), ast.string('y'), ast.nil()]);
    parent[key].push(twin);
  }),
  'another argument name': at([Kind.ARGUMENT, Kind.OBJECT_FIELD], ({ node }, random) => {
    node.name = ast.name(random.pick(['frist', 'first', 'id', 'homeId', 'filter', 'name', 'type', 'iF']));
  }),
};

const fragments = {
  'unused fragment': (random, { ast: tree }) =>
    void tree.definitions.push(ast.fragment('Unused', random.pick(TYPES), [ast.field(random.pick(NAMES))])) ?? true,
  'unknown fragment': at(selections, ({ parent }) => void parent.selections.push(ast.spread('Nowhere'))),
  'fragment that spreads itself': at(Kind.FRAGMENT_DEFINITION, ({ node }, random, request) => {
    const to = random.chance(0.5) ? node : some(random, request, Kind.FRAGMENT_DEFINITION).node;
    const sets = ast.ofKind(node, Kind.SELECTION_SET);
    random.pick(sets).node.selections.push(ast.spread(to.name.value));
  }),
  'another type condition': at([Kind.FRAGMENT_DEFINITION, Kind.INLINE_FRAGMENT], ({ node }, random) => {
    node.typeCondition = ast.namedType(random.pick(TYPES));
  }),
  'fragment twice': at(Kind.FRAGMENT_DEFINITION, ({ node }, random, { ast: tree }) => {
    tree.definitions.push(structuredClone(node));
  }),
  'fragment elsewhere': at(Kind.FRAGMENT_SPREAD, ({ node }, random, request) => {
    some(random, request, Kind.SELECTION_SET).node.selections.push(structuredClone(node));
  }),
  'fragment less': at(Kind.FRAGMENT_DEFINITION, (place) => ast.replace(place)),
  'directive on a fragment': at(Kind.FRAGMENT_DEFINITION, ({ node }) => {
    node.directives.push(ast.directive('include', [ast.argument('if', ast.boolean(true))]));
  }),
};

const condition = (random) =>
  random.pick([
    ast.boolean(true),
    ast.string('true'),
    ast.number('1'),
    ast.nil(),
    ast.variable('undefined'),
    ast.enumeration('true_'),
  ]);

const directives = {
  'unknown directive': at(selections, ({ node }, random) => {
    const key = random.pick(['skp', 'Include', 'deprecated', 'specifiedBy', 'oneOf', 'defer', 'stream', 'client']);
    node.directives = [
      ...node.directives,
      ast.directive(key, random.chance(0.5) ? [ast.argument('url', ast.string('x'))] : []),
    ];
  }),
  'directive with a wrong condition': at(selections, ({ node }, random) => {
    const given = random.pick([
      [],
      [ast.argument('if', condition(random))],
      [ast.argument('unless', ast.boolean(true))],
    ]);
    node.directives = [...node.directives, ast.directive(random.pick(['skip', 'include']), given)];
  }),
  'directive twice': at(selections, ({ node }, random) => {
    const made = () => ast.directive('skip', [ast.argument('if', ast.boolean(random.chance(0.5)))]);
    node.directives = [...node.directives, made(), made()];
  }),
  'directive argument twice': at(selections, ({ node }) => {
    const value = () => ast.argument('if', ast.boolean(false));
    node.directives = [...node.directives, ast.directive('skip', [value(), value()])];
  }),
  'directive on an operation': at([Kind.OPERATION_DEFINITION, Kind.VARIABLE_DEFINITION], ({ node }, random) => {
    node.directives.push(ast.directive(random.pick(['skip', 'x']), [ast.argument('if', ast.boolean(true))]));
  }),
};

const operations = {
  'another operation': (random, request) => {
    const key = random.pick([null, null, 'Other', 'Q', 'Home_1']);
    const kind = random.pick(['query', 'query', 'mutation', 'subscription']);
    request.ast.definitions.push(ast.operation(kind, key, [], [ast.field('__typename')]));
    return true;
  },
  'another operation name': (random, request) => {
    request.operationName = random.pick(['Other', 'Q', 'q', undefined, 'F0', '__typename']);
    return true;
  },
  'name of the operation': at(Kind.OPERATION_DEFINITION, ({ node }, random) => {
    node.name = random.chance(0.3) ? undefined : ast.name(random.pick(['Q', 'F0', 'fragment', 'true', 'null']));
  }),
  'kind of the operation': at(Kind.OPERATION_DEFINITION, ({ node }, random) => {
    node.operation = random.pick(['query', 'mutation', 'subscription']);
  }),
  'root field more': at(Kind.OPERATION_DEFINITION, ({ node }, random) => {
    const field = ast.field(random.pick(['__typename', '__typename', 'me', '__schema', 'homes', 'telemetry']));
    node.selectionSet.selections.push(random.chance(0.5) ? field : ast.inline(null, [field]));
  }),
  'no operation': (random, { ast: tree }) => {
    tree.definitions = tree.definitions.filter((definition) => definition.kind !== Kind.OPERATION_DEFINITION);
    if (tree.definitions.length === 0) tree.definitions.push(ast.fragment('Only', 'Query', [ast.field('__typename')]));
    return true;
  },
};

const GROUPS = [fields, args, fragments, directives, operations, literalMutations, variableMutations];

/** Changes a request at one to three places. Returns what it did. */
export function mutate(random, request) {
  const done = [];
  const wanted = random.weighted([
    [6, 1],
    [3, 2],
    [1, 3],
  ]);
  for (let attempts = 0; done.length < wanted && attempts < 20; attempts += 1) {
    const [name, change] = random.pick(Object.entries(random.pick(GROUPS)));
    if (change(random, request)) done.push(name);
  }
  return done;
}
