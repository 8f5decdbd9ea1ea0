// urql: queries and mutations over HTTP, subscriptions over one WebSocket or as server-sent events.
import { Client, cacheExchange, fetchExchange, subscriptionExchange } from '@urql/core';
import { connect } from '../../../../examples/clients/live.mjs';

export function urqlClient(url, session) {
  const socket = connect(url, session);
  const forwardSubscription = ({ query, variables }) => ({
    subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query, variables }, sink) }),
  });
  const exchanges = [cacheExchange, subscriptionExchange({ forwardSubscription }), fetchExchange];
  return new Client({ url, fetch: session.fetch, exchanges });
}

export function urqlClientWithoutSockets(url, session) {
  return new Client({ url, fetch: session.fetch, exchanges: [cacheExchange, fetchExchange], fetchSubscriptions: true });
}
