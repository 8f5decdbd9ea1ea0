// Runs every client against a server: node clients/run.mjs SETUP, where SETUP is JSON of the Rust test.
// Prints what failed; exit status 0 only if nothing did.
import WebSocket from 'ws';
import { apollo3, apollo4 } from './apollo.mjs';
import { graphqlRequest } from './graphql_request.mjs';
import { urql } from './urql.mjs';

// Apollo Client expects it, as in a browser.
globalThis.WebSocket ??= WebSocket;
// urql aborts a stream that nobody reads any longer and catches no error of that.
process.on('unhandledRejection', (reason) => {
  if (reason?.name !== 'AbortError') throw reason;
});
const setup = JSON.parse(process.argv[2]);
const clients = { apollo3, apollo4, urql, graphqlRequest };
const only = process.argv[3]?.split(',') ?? Object.keys(clients);
// A part of a document's name, so that no other client has made the server know its hash.
let unique = 0;
const outcomes = await Promise.allSettled(only.map((name) => clients[name]({ ...setup, unique: (unique += 1) })));
outcomes.forEach(({ status, reason }, at) => {
  console.log(`${only[at]}: ${status === 'fulfilled' ? 'ok' : reason.stack ?? reason}`);
  if (reason?.cause) console.log(reason.cause);
});
process.exit(outcomes.every(({ status }) => status === 'fulfilled') ? 0 : 1);
