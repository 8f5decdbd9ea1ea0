// urql: its document cache, requests by GET, subscriptions over graphql-ws and over server-sent events.
import assert from 'node:assert/strict';
import { Client, cacheExchange, fetchExchange, subscriptionExchange } from '@urql/core';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import * as checks from './checks.mjs';
import * as operations from './operations.mjs';

export async function urql(setup) {
  const given = checks.variables(setup);
  let token;
  const headers = () => (token ? { authorization: `Bearer ${token}` } : {});
  const socket = createClient({
    url: setup.socketUrl, webSocketImpl: WebSocket, retryAttempts: 0, connectionParams: headers,
  });
  const forwardSubscription = ({ query, variables }) => ({
    subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query, variables }, sink) }),
  });
  const options = { url: setup.url, fetchOptions: () => ({ headers: headers() }) };
  const client = new Client({
    ...options, exchanges: [cacheExchange, fetchExchange, subscriptionExchange({ forwardSubscription })],
  });
  const sse = new Client({ ...options, fetchSubscriptions: true, exchanges: [fetchExchange] });

  token = checks.login(whole(await client.mutation(operations.LOGIN, given.login)), setup);
  for (const preferGetMethod of [false, true]) {
    const context = { preferGetMethod, requestPolicy: 'network-only' };
    checks.home(whole(await client.query(operations.HOME, given.home, context)), setup);
  }
  checks.sent(whole(await client.mutation(operations.SEND, given.send)), setup);
  checks.sentWithoutPayload(whole(await client.mutation(operations.SEND, given.sendWithoutPayload)));

  for (const { data, error } of [await client.query(operations.DEVICE, given.absent)]) {
    assert.equal(data.device, null);
    checks.refused(error.graphQLErrors, 'NOT_FOUND', ['device']);
  }
  const unknown = await client.query(operations.UNKNOWN_FIELD, {});
  checks.refused(unknown.error.graphQLErrors, 'BAD_USER_INPUT', undefined);
  const asMember = { fetchOptions: { headers: { authorization: `Bearer ${setup.memberToken}` } } };
  const partial = await client.query(operations.SETTINGS, given.home, asMember);
  checks.partial(partial.data, partial.error.graphQLErrors, setup);

  for (const by of [client, sse]) {
    checks.reading(whole(await first(by.subscription(operations.READINGS, given.home))), setup);
    const refused = await first(by.subscription(operations.READINGS, { homeId: given.absent.id }));
    assert.equal(refused.error.graphQLErrors[0].extensions.code, 'NOT_FOUND');
  }
  await socket.dispose();
}

function whole({ data, error }) {
  assert.equal(error, undefined, error?.message);
  return data;
}

/** The first result of a stream. */
function first(source) {
  return new Promise((resolve) => {
    const { unsubscribe } = source.subscribe((result) => {
      resolve(result);
      queueMicrotask(() => unsubscribe());
    });
  });
}
