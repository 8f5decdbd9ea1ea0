// One request, asked of both: the same verdict, the same text of `data`, errors at the same places.
import { ofKind } from './ast.mjs';
import { answer, judge, subscribed } from './judge.mjs';
import { members, normalised } from './json_text.mjs';
import { firstEvents } from './resolvers.mjs';

/** How many events of a subscription are compared. */
const MAX_EVENTS = 5;

/** A response of ours: the normalised text of its data, its errors. */
function read(text) {
  const parts = Object.fromEntries(members(normalised(text)));
  return { data: parts.data, errors: parts.errors ? JSON.parse(parts.errors) : [] };
}

/** Whether our response refuses the request before anything runs. An error of a field has a path. */
const isRefused = ({ data, errors }) => data === undefined && errors[0]?.path === undefined;

/** The place of the null that an error has left in the data. */
function nulled(data, path) {
  let at = data;
  for (const [depth, key] of (path ?? []).entries()) {
    if (at === null || at === undefined) return JSON.stringify(path.slice(0, depth));
    at = at[key];
  }
  return at === null ? JSON.stringify(path ?? []) : `${JSON.stringify(path)}, which is not null`;
}

const places = (data, errors) =>
  [...new Set(errors.map((error) => nulled(data === undefined ? null : JSON.parse(data), error.path)))]
    .sort()
    .join(' ');

/** Lists of an introspection have no order. */
function withoutOrder(value) {
  if (Array.isArray(value))
    return value.map(withoutOrder).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withoutOrder(item)]));
}

/** The response keys of introspection. */
const introspected = ({ document }) =>
  ofKind(document, 'Field')
    .filter(({ node }) => node.name.value === '__schema' || node.name.value === '__type')
    .map(({ node }) => (node.alias ?? node.name).value);

function sameData(ours, theirs, judged) {
  if (ours === theirs) return true;
  const keys = introspected(judged);
  if (keys.length === 0 || ours === undefined) return false;
  const text = (data) =>
    JSON.stringify(JSON.parse(data), (key, value) => (keys.includes(key) ? withoutOrder(value) : value));
  return text(ours) === text(theirs);
}

const sortedKeys = (value) =>
  JSON.stringify(value, (_, item) =>
    item && typeof item === 'object' && !Array.isArray(item) ? Object.fromEntries(Object.entries(item).sort()) : item,
  );

/** How two answers differ, or null. */
function differenceOf(ours, theirs, judged) {
  if (!sameData(ours.data, theirs.data, judged)) {
    const isOrder =
      ours.data !== undefined && sortedKeys(JSON.parse(ours.data)) === sortedKeys(JSON.parse(theirs.data));
    const ownError =
      ours.errors.length > theirs.errors.length ? `, with our error ${wording(ours.errors[0].message)}` : '';
    return { kind: isOrder ? 'the order of keys differs' : `the data differs${ownError}`, ours, theirs };
  }
  const [our, their] = [ours, theirs].map(({ data, errors }) => places(data, errors));
  return our === their ? null : { kind: 'the errors differ', ours, theirs };
}

const wording = (text = '') =>
  text
    .replace(/"[^"]*"|'[^']*'|`[^`]*`/g, '…')
    .replace(/\d+/g, '0')
    .slice(0, 120);

/** How many requests ended how. */
export const outcomes = { refused: 0, undecided: 0, judged: 0, answered: 0, events: 0 };

/** Asks both. Returns null if they agree. A viewer has a `client` and, unless signed out, a `snapshot` and `resolve`. */
export async function compare(request, viewer, signedOut) {
  const judged = judge(request);
  if (judged.undecided) {
    outcomes.undecided += 1;
    return null;
  }
  const kind = judged.operation?.operation;
  const expected = kind === 'subscription' && viewer.snapshot ? expectedEvents(judged, request, viewer) : null;
  // A stream of which nothing is expected stays silent, unless it is refused.
  const mayBeSilent = kind === 'subscription' || (kind === undefined && request.query.includes('subscription'));
  const { client } = mayBeSilent && !expected ? signedOut : viewer;
  const answers = (await client.send(request, expected?.length ?? 1)).map(read);
  const refused = answers.length > 0 && isRefused(answers[0]);
  if (refused !== Boolean(judged.refused)) {
    const why = refused
      ? `we refuse: ${wording(answers[0].errors[0]?.message)}`
      : `graphql-js refuses: ${wording(judged.refused[0].message)}`;
    return { kind: `verdict: ${why}`, ours: answers[0], theirs: { errors: judged.refused ?? [] } };
  }
  const isCompared = kind === 'query' && viewer.snapshot;
  outcomes[refused ? 'refused' : isCompared ? 'answered' : expected ? 'events' : 'judged'] += 1;
  if (refused || !viewer.snapshot) return null;
  if (kind === 'query') return differenceOf(answers[0], answer(judged, request, viewer.resolve), judged);
  for (const [at, theirs] of (expected ?? []).entries()) {
    const ours = answers[at] ?? { data: undefined, errors: [] };
    const difference = differenceOf(ours, theirs, judged);
    if (difference) return { ...difference, kind: `event: ${difference.kind}` };
  }
  return null;
}

/** The first events of a subscription, or null where a snapshot does not tell them. */
function expectedEvents(judged, request, viewer) {
  const chosen = subscribed(judged);
  const objects = chosen && firstEvents(viewer.snapshot, chosen.field, chosen.args);
  if (!objects || objects.length === 0) return null;
  return objects
    .slice(0, MAX_EVENTS)
    .map((object) => answer(judged, request, viewer.resolve, { [chosen.field]: object }));
}
