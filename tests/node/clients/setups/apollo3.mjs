// Apollo Client 3: apollo.mjs with version 3 in the place of version 4.
import { register } from 'node:module';

/** The paths that Node needs. */
const THREE = {
  '@apollo/client': 'apollo-client-3/core/index.js',
  '@apollo/client/link/subscriptions': 'apollo-client-3/link/subscriptions/index.js',
};
const hook = `
  const three = ${JSON.stringify(THREE)};
  export const resolve = (name, context, next) =>
    next(context.parentURL?.endsWith('/apollo.mjs?3') ? three[name] ?? name : name, context);`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);

export const { apolloClient, apolloClientWithoutSockets } = await import('./apollo.mjs?3');
