// Speaks to a URL with the npm graphql-ws client: node ws_client.mjs URL TOKEN.
// Prints one JSON line: what a subscription, a query, a refused document and a cancelled stream gave.
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const [url, token] = process.argv.slice(2);
const client = createClient({
  url,
  webSocketImpl: WebSocket,
  retryAttempts: 0,
  lazy: false,
  connectionParams: { Authorization: `Bearer ${token}` },
});
const all = async (query) => {
  const found = [];
  for await (const item of client.iterate({ query })) found.push(item);
  return found;
};
const count = await all('subscription { count(to: 5) }');
const me = await all('{ me }');
let refused;
try {
  await all('subscription { nothing }');
} catch (errors) {
  refused = errors[0].extensions.code;
}
const cancelled = [];
for await (const item of client.iterate({ query: 'subscription { count(to: 1000000) }' })) {
  cancelled.push(item.data.count);
  if (cancelled.length === 3) break;
}
const after = await all('{ hello }');
console.log(JSON.stringify({ count, me, refused, cancelled, after }));
await client.dispose();
