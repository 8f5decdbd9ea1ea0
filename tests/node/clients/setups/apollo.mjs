// Apollo Client 4: queries and mutations over HTTP, subscriptions over one WebSocket.
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
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
