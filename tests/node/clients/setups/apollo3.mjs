// Apollo Client 3: as apollo.mjs, from the paths that Node needs.
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache } from 'apollo-client-3/core/index.js';
import { GraphQLWsLink } from 'apollo-client-3/link/subscriptions/index.js';
import { connect } from '../../../../examples/clients/live.mjs';

export function apolloClient(url, session) {
  const http = new HttpLink({ uri: url, fetch: session.fetch });
  const socket = new GraphQLWsLink(connect(url, session));
  const isSubscription = ({ query }) => query.definitions.some((part) => part.operation === 'subscription');
  const link = ApolloLink.split(isSubscription, socket, http);
  return new ApolloClient({ link, cache: new InMemoryCache() });
}

/** Subscriptions over HTTP, as multipart responses. */
export function apolloClientWithoutSockets(url, session) {
  const link = new HttpLink({ uri: url, fetch: session.fetch });
  return new ApolloClient({ link, cache: new InMemoryCache() });
}
