// The requests of a run: request `number` of a seed is always the same, for the same data.
import { Kind, parse, print } from 'graphql';
import { document, ofKind } from './ast.mjs';
import { Generator } from './generate.mjs';
import { mutate } from './mutate.mjs';
import { damaged, printed } from './mutate_text.mjs';
import { jsonText } from './mutate_variables.mjs';
import { Random } from './random.mjs';
import { isWithinLimits } from './size.mjs';

const KINDS = [
  [76, 'query'],
  [13, 'mutation'],
  [11, 'subscription'],
];
const CHANGES = [
  [58, 'none'],
  [29, 'tree'],
  [9, 'text'],
  [4, 'both'],
];

const TRANSPORTS = [
  [67, 'POST'],
  [10, 'GET'],
  [8, 'hash'],
  [5, 'multipart'],
  [5, 'graphql-transport-ws'],
  [5, 'graphql-ws'],
];
/** Longest document that is sent in a URL. */
const MAX_URL_CHARS = 2_000;

/** How many selections a set has at most, at first. */
const SIZES = { query: 4, mutation: 3, subscription: 3 };

/** A valid request: its syntax tree, the values of its variables, the operation's name and kind. */
function valid(random, pools, kind) {
  for (let size = SIZES[kind]; ; size = Math.max(1, size - 0.25)) {
    const key = random.chance(0.4) ? random.pick(['Q', 'query', 'on', 'Home_1']) : null;
    const generator = new Generator(random, pools, '', Math.round(size));
    const definitions = generator.definitionsOf(generator.operation(kind, key));
    const request = { kind, ast: null, variables: generator.values, operationName: undefined };
    if (key !== null && random.chance(0.3)) request.operationName = key;
    if (key !== null && random.chance(0.15)) {
      const other = new Generator(random, pools, 'Other', 2);
      definitions.push(...other.definitionsOf(other.operation('query', 'Other')));
      request.operationName = key;
    }
    request.ast = document(random.chance(0.5) ? definitions : random.shuffle(definitions));
    if (isWithinLimits(request)) return request;
  }
}

/** How a request travels. A mutation can't be sent by GET. */
function transportOf(random, { query }) {
  const transport = random.weighted(TRANSPORTS);
  const isUrlPossible = query.length <= MAX_URL_CHARS && !query.includes('mutation');
  return transport === 'GET' && !isUrlPossible ? 'POST' : transport;
}

/** A new document with values for its variables. */
function fresh(seed, number, pools) {
  const random = new Random(`${seed}:${number}`);
  const request = valid(random, pools, random.weighted(KINDS));
  const changes = random.weighted(CHANGES);
  const done = changes === 'tree' || changes === 'both' ? mutate(random, request) : [];
  let query = printed(random, request.ast);
  if (changes === 'text' || changes === 'both') {
    const damage = damaged(random, query);
    query = damage.text;
    done.push(...damage.done);
  }
  return { ...request, query, done };
}

/** Other values for the same document, which the server has cached meanwhile. */
function vary(random, request) {
  for (const { node } of ofKind(request.ast, Kind.VARIABLE_DEFINITION)) {
    const key = node.variable.name.value;
    const isCondition = print(node.type).startsWith('Boolean');
    if (isCondition && random.chance(0.7)) request.variables[key] = random.chance(0.5);
    else if (random.chance(0.15)) delete request.variables[key];
  }
  const names = request.ast.definitions
    .map((d) => d.kind === Kind.OPERATION_DEFINITION && d.name?.value)
    .filter(Boolean);
  if (names.length > 1) request.operationName = random.pick(names);
  request.done.push('other values');
}

/** Whether a request that was changed is still below the server's limits. One that can't be measured is invalid. */
function isSmall({ query, variables }) {
  try {
    return isWithinLimits({ ast: parse(query), variables });
  } catch {
    return true;
  }
}

/** A request as it is sent, with what was done to a valid one. */
export function requestOf(seed, number, pools) {
  const random = new Random(`${seed}:${number} sent`);
  const isRepeated = number > 0 && random.chance(0.25);
  const request = fresh(seed, isRepeated ? Math.max(0, number - random.int(1, 20)) : number, pools);
  if (isRepeated) vary(random, request);
  if (request.done.length > 0 && !isSmall(request)) return requestOf(`${seed}+`, number, pools);
  const variables = 'sent' in request ? request.sent : jsonText(request.variables);
  const isEmpty = variables === '{}' && random.chance(0.5);
  return {
    number,
    done: request.done,
    query: request.query,
    variables: isEmpty ? undefined : variables,
    operationName: request.operationName,
    viewer: random.int(0, 99),
    transport: transportOf(random, request),
  };
}

/** The viewer of a request. Mutations are sent signed out, so they are judged and change nothing. */
export function viewerOf({ query, viewer }, { signedIn, signedOut }) {
  if (query.includes('mutation')) return signedOut;
  return viewer < 95 ? signedIn[viewer % signedIn.length] : signedOut;
}
