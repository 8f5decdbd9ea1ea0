// The clients of ../setups and what the test does with each. `subscribe` has the form of graphql-ws.
import { parse } from 'graphql';
import { onEnd, pipe, subscribe } from 'wonka';
import { connect } from '../../../../examples/clients/live.mjs';
import { apolloClient, apolloClientWithoutSockets } from '../setups/apollo.mjs';
import * as three from '../setups/apollo3.mjs';
import { requestClient } from '../setups/graphql_request.mjs';
import { sseClient } from '../setups/graphql_sse.mjs';
import { urqlClient, urqlClientWithoutSockets } from '../setups/urql.mjs';

const apollo = (create) => (url, session) => {
  const client = create(url, session);
  return {
    async query(text) {
      const { data } = await client.query({ query: parse(text), fetchPolicy: 'network-only' });
      return data;
    },
    subscribe({ query, variables }, sink) {
      const failed = (error) => sink.error(nonEmpty(error.errors) ?? nonEmpty(error.graphQLErrors) ?? error);
      const options = { query: parse(query), variables, fetchPolicy: 'no-cache', errorPolicy: 'all' };
      const subscription = client.subscribe(options).subscribe({
        next: ({ data, errors, error }) => {
          // Version 3 has `errors`, version 4 has `error`.
          if (errors || error) failed(error ?? { errors });
          else sink.next({ data });
        },
        error: failed,
        complete: sink.complete,
      });
      return () => subscription.unsubscribe();
    },
  };
};

const nonEmpty = (list) => (list?.length > 0 ? [...list] : undefined);

const urql = (create) => (url, session) => {
  const client = create(url, session);
  return {
    async query(text) {
      const { data, error } = await client.query(text, {}, { requestPolicy: 'network-only' });
      if (error) throw error;
      return data;
    },
    subscribe({ query, variables }, sink) {
      // At the end of a stream of server-sent events urql gives the last result again, with `hasNext: false`.
      const take = ({ data, error, hasNext }) => {
        if (error) sink.error(nonEmpty(error.graphQLErrors) ?? error.networkError);
        else if (hasNext) sink.next({ data });
      };
      return pipe(client.subscription(query, variables), onEnd(sink.complete), subscribe(take)).unsubscribe;
    },
  };
};

/** Clients for subscriptions only. */
const streams = (create) => (url, session) => {
  const client = create(url, session);
  return { query: session.request, subscribe: client.subscribe };
};

const graphqlRequest = (url, session) => {
  const client = requestClient(url, session);
  return { query: (text) => client.request(text) };
};

export const clients = {
  apollo4: apollo(apolloClient),
  'apollo4 multipart': apollo(apolloClientWithoutSockets),
  apollo3: apollo(three.apolloClient),
  'apollo3 multipart': apollo(three.apolloClientWithoutSockets),
  urql: urql(urqlClient),
  'urql SSE': urql(urqlClientWithoutSockets),
  'graphql-ws': streams(connect),
  'graphql-sse': streams(sseClient),
  'graphql-request': graphqlRequest,
};
