// Valid documents over the schema: aliases, fragments of both kinds on every type (the roots too), directives,
// variables of every type with and without defaults.
import {
  getNamedType,
  getNullableType,
  isCompositeType,
  isListType,
  isNonNullType,
  isInputObjectType,
  print,
} from 'graphql';
import * as ast from './ast.mjs';
import { rootType, schema } from './schema.mjs';
import { jsonValue, literal } from './values.mjs';

const ALIASES = ['a', 'b', 'x', 'id', 'name', 'type', 'edges', 'device', '_', 'A1'];
/** Their answers change while nothing is written, or reveal a secret, or cost a password hash. */
const LEFT_OUT = {
  Query: ['serverStatus'],
  Mutation: [
    'login',
    'register',
    'refreshToken',
    'changePassword',
    'updateMe',
    'deleteAccount',
    'requestPasswordReset',
    'resetPassword',
    'requestEmailVerification',
    'verifyEmail',
  ],
  IntegrationToken: ['lastUsedAt'],
  __Schema: ['directives'],
};
/** Deepest selection below the root. */
const MAX_LEVELS = 8;
const MAX_INTROSPECTION_LEVELS = 4;

/** Generates one operation with its fragments and variables. */
export class Generator {
  constructor(random, pools, prefix, size) {
    Object.assign(this, { random, pools, prefix, size });
    this.fragments = [];
    this.definitions = new Map();
    this.values = {};
    /** Type, response key → the field and arguments it stands for, so that no two selections conflict. */
    this.keys = new Map();
  }

  operation(kind, key) {
    const root = rootType(kind);
    const selections = kind === 'subscription' ? this.subscriptionRoot(root) : this.selections(root, 1, this.size);
    const definitions = this.random.shuffle([...this.definitions.values()]);
    return ast.operation(kind, key, definitions, selections);
  }

  /** The operation and the fragments that it reaches, without definitions of variables that were not used. */
  definitionsOf(operation) {
    const reached = new Set([operation]);
    const used = new Set();
    for (const definition of reached) {
      for (const { node, parent } of ast.ofKind(definition, 'FragmentSpread', 'Variable')) {
        if (node.kind === 'FragmentSpread') reached.add(this.fragments.find((f) => f.name.value === node.name.value));
        else if (parent.kind !== 'VariableDefinition') used.add(node.name.value);
      }
    }
    operation.variableDefinitions = operation.variableDefinitions.filter((d) => used.has(d.variable.name.value));
    for (const key of Object.keys(this.values)) if (!used.has(key)) delete this.values[key];
    return [...reached];
  }

  /** One response key, perhaps selected several times and through fragments. */
  subscriptionRoot(root) {
    const field = this.random.pick(Object.values(root.getFields()));
    const first = this.field(root, field, 1);
    const selections = [first];
    if (this.random.chance(0.3)) {
      const again = ast.selectionSet(this.selections(getNamedType(field.type), 2, this.size));
      selections.push({ ...first, selectionSet: again });
    }
    return selections.map((selection) => this.wrapped(root, selection));
  }

  /** A selection as it is, or in fragments. */
  wrapped(type, selection) {
    if (this.random.chance(0.6)) return selection;
    const inner = this.wrapped(type, selection);
    if (this.random.chance(0.5)) return ast.inline(this.random.chance(0.7) ? type.name : null, [inner]);
    return ast.spread(this.addFragment(type, [inner]));
  }

  addFragment(type, selections) {
    const key = `${this.prefix}${this.random.pick(['F', 'fields', 'on_', 'Part'])}${this.fragments.length}`;
    this.fragments.push(ast.fragment(key, type.name, selections));
    return key;
  }

  selections(type, level, most) {
    const count = this.random.int(1, Math.max(1, most));
    return Array.from({ length: count }, () => this.selection(type, level, most));
  }

  selection(type, level, most) {
    const { random } = this;
    const below = () => this.selections(type, level, Math.max(1, most - 1));
    const kind = random.weighted([
      [74, 'field'],
      [9, 'inline'],
      [9, 'new'],
      [8, 'known'],
      [5, '__typename'],
    ]);
    const known = this.fragments.filter((fragment) => fragment.typeCondition.name.value === type.name);
    if (kind === 'inline' && most > 1) {
      return ast.inline(random.chance(0.7) ? type.name : null, below(), this.directives());
    }
    if (kind === 'new' && most > 1) return ast.spread(this.addFragment(type, below()), this.directives());
    // A fragment is added when it is complete, so no chain of spreads is a cycle.
    if (kind === 'known' && known.length > 0) return ast.spread(random.pick(known).name.value, this.directives());
    if (kind === '__typename') {
      const alias = this.key(type, '__typename', [], ['__typename', 't']);
      return ast.field('__typename', {
        alias: alias === '__typename' ? undefined : alias,
        directives: this.directives(),
      });
    }
    if (level === 1 && type.name === 'Query' && random.chance(0.05)) return this.introspection();
    return this.field(type, this.chooseField(type, level), level);
  }

  chooseField(type, level) {
    const fields = Object.values(type.getFields()).filter((field) => !LEFT_OUT[type.name]?.includes(field.name));
    const isLeaf = (field) => !isCompositeType(getNamedType(field.type));
    const leaves = fields.filter(isLeaf);
    const deepest = type.name.startsWith('__') ? this.introspectionLevel + MAX_INTROSPECTION_LEVELS : MAX_LEVELS;
    const wantsLeaf = level >= deepest || this.random.chance(level === 1 ? 0.1 : 0.35 + level * 0.06);
    if (leaves.length > 0 && wantsLeaf) return this.random.pick(leaves);
    return this.random.pick(fields);
  }

  introspection() {
    const { random } = this;
    this.introspectionLevel = 1;
    if (random.chance(0.2)) {
      const types = ast.field('queryType', { selections: this.selections(schema.getType('__Type'), 2, 2) });
      return ast.field('__schema', { selections: [types] });
    }
    const names = [...Object.keys(schema.getTypeMap()), 'Nothing'].filter((name) => !name.startsWith('__'));
    const args = [ast.argument('name', ast.string(random.pick(names)))];
    const alias = this.key({ name: 'Query' }, '__type', args, ['__type', 't1', 't2', 't3', 't4']);
    if (alias === null) return ast.field('__typename');
    return ast.field('__type', {
      alias: alias === '__type' ? undefined : alias,
      args,
      selections: this.selections(schema.getType('__Type'), 2, 4),
    });
  }

  field(type, field, level) {
    const { random } = this;
    const args = random
      .shuffle(this.chooseArguments(type, field, level))
      .map((arg) => ast.argument(arg.name, this.argument(arg, `${type.name}.${field.name}.${arg.name}`)));
    const others = random.shuffle(ALIASES);
    const wantedKeys = random.chance(0.15) ? [...others, field.name] : [field.name, ...others];
    const key = this.key(type, field.name, args, wantedKeys);
    if (key === null) return ast.field('__typename');
    const named = getNamedType(field.type);
    const selections = isCompositeType(named) ? this.selections(named, level + 1, this.size) : undefined;
    const isRoot = type.name === 'Subscription';
    return ast.field(field.name, {
      alias: key === field.name && !random.chance(0.02) ? undefined : key,
      args,
      directives: isRoot ? [] : this.directives(),
      selections,
    });
  }

  chooseArguments(type, field, level) {
    const { random } = this;
    if (type.name === 'Subscription' && random.chance(0.9)) {
      // One argument says whose events are wanted.
      const isAfter = (arg) => /^after(Id)?$/.test(arg.name);
      const whose = random.pick(field.args.filter((arg) => !isAfter(arg)));
      return field.args.filter((arg) => arg === whose || (isAfter(arg) && random.chance(0.7)));
    }
    return field.args.filter((arg) => {
      if (isNonNullType(arg.type) && arg.defaultValue === undefined) return true;
      // A list within a list stays small.
      return random.chance(arg.name === 'first' ? (level > 1 ? 0.95 : 0.7) : 0.3);
    });
  }

  /** The first of the wanted response keys that is free, or stands for the same. */
  key(type, field, args, wanted) {
    const what = `${field}(${args.map(print).sort().join()})`;
    for (const key of wanted) {
      const place = `${type.name}.${key}`;
      if ((this.keys.get(place) ?? what) !== what) continue;
      this.keys.set(place, what);
      return key;
    }
    return null;
  }

  argument(arg, place) {
    return literal(this.random, this.pools, arg.type, place, (type, at) => this.maybeVariable(type, at, arg));
  }

  maybeVariable(type, place, arg) {
    if (!this.random.chance(isInputObjectType(getNullableType(type)) ? 0.5 : 0.25)) return null;
    const hasDefault = arg.type === type && arg.defaultValue !== undefined;
    return ast.variable(this.addVariable(type, place, hasDefault));
  }

  /** Declares a variable that may stand where the type is expected. Returns its name. */
  addVariable(type, place, locationHasDefault = false) {
    const { random, pools } = this;
    const known = [...this.definitions.values()].filter((d) => d.place === place && d.forType === String(type));
    if (known.length > 0 && random.chance(0.4)) return random.pick(known).variable.name.value;
    const nullable = getNullableType(type);
    const constant = () => literal(random, pools, nullable, place);
    const isStrict = random.chance(0.3);
    let text = String(type);
    let defaultValue = random.chance(0.35) ? constant() : undefined;
    if (isNonNullType(type)) {
      // A nullable variable may stand for a non-null value if it, or the place, has a default.
      if (defaultValue?.kind === 'NullValue') defaultValue = undefined;
      if ((defaultValue || locationHasDefault) && random.chance(0.5)) text = String(nullable);
    } else if (isStrict) text = `${type}!`;
    const isNonNull = text.endsWith('!');
    if (isNonNull && defaultValue?.kind === 'NullValue') defaultValue = undefined;
    const key = `${random.pick(['v', 'x', 'id', 'on', '_'])}${this.definitions.size}`;
    const mayBeAbsent = !isNonNull || defaultValue !== undefined;
    // An explicit null where the place is non-null is an error of the field.
    const isNull = !isNonNull && random.chance(isNonNullType(type) ? 0.03 : 0.1);
    if (!mayBeAbsent || random.chance(0.6)) this.values[key] = isNull ? null : jsonValue(random, pools, type, place);
    const definition = ast.variableDefinition(key, text, defaultValue);
    this.definitions.set(key, Object.assign(definition, { place, forType: String(type) }));
    return key;
  }

  directives() {
    const { random } = this;
    if (random.chance(0.88)) return [];
    const condition = () => {
      if (random.chance(0.4)) return ast.boolean(random.chance(0.5));
      return ast.variable(this.condition());
    };
    const made = (key) => ast.directive(key, [ast.argument('if', condition())]);
    return random.weighted([
      [5, () => [made('skip')]],
      [5, () => [made('include')]],
      [1, () => [made('include'), made('skip')]],
    ])();
  }

  /** A variable of a directive: never null, because specifications differ on when that is an error. */
  condition() {
    const type = schema.getDirective('skip').args[0].type;
    const key = this.addVariable(type, 'condition');
    if (this.values[key] === null) this.values[key] = this.random.chance(0.5);
    return key;
  }
}
