// graphql-request: queries and mutations. It has no subscriptions.
import { GraphQLClient } from 'graphql-request';

export const requestClient = (url, session) => new GraphQLClient(url, { fetch: session.fetch });
