// Apollo Client, versions 3 and 4: cache, error policies, automatic persisted queries by GET, subscriptions over
// graphql-ws and over multipart HTTP.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createClient } from 'graphql-ws';
import { parse } from 'graphql';
import WebSocket from 'ws';
import * as checks from './checks.mjs';
import * as operations from './operations.mjs';

const FOUR = () => Promise.all([
  import('@apollo/client'),
  import('@apollo/client/link/subscriptions'),
  import('@apollo/client/link/persisted-queries'),
]);
const THREE = () => Promise.all([
  import('apollo-client-3/core/index.js'),
  import('apollo-client-3/link/subscriptions/index.js'),
  import('apollo-client-3/link/persisted-queries/index.js'),
]);

export const apollo4 = (setup) => run(setup, FOUR, (result) => result.error?.errors);
export const apollo3 = (setup) => run(setup, THREE, (result) => result.errors);

const sha256 = (text) => createHash('sha256').update(text).digest('hex');

async function run(setup, load, errorsOf) {
  const [{ ApolloClient, InMemoryCache, HttpLink }, { GraphQLWsLink }, { createPersistedQueryLink }] = await load();
  const requests = [];
  const headers = {};
  const counted = (url, init) => {
    requests.push(`${init.method} ${new URL(url).searchParams.has('query')}`);
    return fetch(url, init);
  };
  const http = new HttpLink({ uri: setup.url, fetch: counted, headers });
  const client = new ApolloClient({ link: http, cache: new InMemoryCache() });
  const given = checks.variables(setup);
  const document = (text) => parse(text);

  const login = await client.mutate({ mutation: document(operations.LOGIN), variables: given.login });
  headers.authorization = `Bearer ${checks.login(login.data, setup)}`;

  const home = { query: document(operations.HOME), variables: given.home };
  checks.home((await client.query(home)).data, setup);
  const n = requests.length;
  checks.home((await client.query(home)).data, setup);
  assert.equal(requests.length, n, 'the cache answers the same query');

  const send = { mutation: document(operations.SEND) };
  checks.sent((await client.mutate({ ...send, variables: given.send })).data, setup);
  checks.sentWithoutPayload((await client.mutate({ ...send, variables: given.sendWithoutPayload })).data);

  await errors(client, setup, given, document, errorsOf);

  // The second time, the server knows the document by its hash.
  const persisted = new ApolloClient({
    link: createPersistedQueryLink({ sha256, useGETForHashedQueries: true }).concat(http),
    cache: new InMemoryCache(),
  });
  const query = document(operations.HOME.replace('query Home', `query Home${setup.unique}`));
  for (const expected of [['GET false', 'GET true'], ['GET false']]) {
    requests.length = 0;
    const { data } = await persisted.query({ ...home, query, fetchPolicy: 'network-only' });
    checks.home(data, setup);
    assert.ok(requests[0] === expected[0] && requests.length === expected.length, requests.join());
  }

  const readings = { query: document(operations.READINGS), variables: given.home };
  const socket = createClient({
    url: setup.socketUrl, webSocketImpl: WebSocket, retryAttempts: 0, connectionParams: headers,
  });
  const live = new ApolloClient({ link: new GraphQLWsLink(socket), cache: new InMemoryCache() });
  checks.reading((await first(live.subscribe(readings))).data, setup);
  // Errors before the first event, by the socket.
  const refused = await first(live.subscribe({ ...readings, variables: { homeId: '987654321' }, errorPolicy: 'all' }))
    .then((result) => errorsOf(result), (error) => error.errors ?? error.graphQLErrors);
  assert.equal(refused[0].extensions.code, 'NOT_FOUND');
  await socket.dispose();
  // The HTTP link subscribes by multipart.
  checks.reading((await first(client.subscribe(readings))).data, setup);
  client.stop();
}

async function errors(client, setup, given, document, errorsOf) {
  const absent = { query: document(operations.DEVICE), variables: given.absent };
  const all = await client.query({ ...absent, errorPolicy: 'all' });
  assert.deepEqual(all.data, { device: null });
  checks.refused(errorsOf(all), 'NOT_FOUND', ['device']);
  const none = await checks.failure(client.query({ ...absent, fetchPolicy: 'no-cache' }));
  checks.refused(none.errors ?? none.graphQLErrors, 'NOT_FOUND', ['device']);
  const ignored = await client.query({ ...absent, errorPolicy: 'ignore', fetchPolicy: 'no-cache' });
  assert.deepEqual(ignored.data, { device: null });

  const partial = await client.query({
    query: document(operations.SETTINGS),
    variables: given.home,
    errorPolicy: 'all',
    context: { headers: { authorization: `Bearer ${setup.memberToken}` } },
  });
  checks.partial(partial.data, errorsOf(partial), setup);

  // A refused document has status 400; its errors are read all the same.
  const unknown = await checks.failure(client.query({ query: document(operations.UNKNOWN_FIELD) }));
  checks.refused(unknown.errors ?? unknown.graphQLErrors, 'BAD_USER_INPUT', undefined);
}

/** The first value of an observable. */
function first(observable) {
  return new Promise((resolve, reject) => {
    const subscription = observable.subscribe({
      next: (value) => {
        resolve(value);
        queueMicrotask(() => subscription.unsubscribe());
      },
      error: reject,
      complete: () => reject(new Error('the stream ended before its first event')),
    });
  });
}
