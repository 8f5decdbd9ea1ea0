// Runs the public GraphQL-over-HTTP audit against a URL: node audit.mjs URL [TOKEN].
// Prints each finding that is not ok and a summary; exit status 0 only if all are ok.
import { serverAudits } from 'graphql-http';

const [url, token] = process.argv.slice(2);
const fetchFn = (input, init = {}) =>
  fetch(input, token ? { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } } : init);

const counts = { ok: 0, notice: 0, warn: 0, error: 0 };
for (const audit of serverAudits({ url, fetchFn })) {
  const result = await audit.fn();
  counts[result.status] += 1;
  if (result.status !== 'ok') console.log(result.status, result.id, result.name, result.reason);
}
console.log(JSON.stringify(counts));
process.exit(counts.ok === Object.values(counts).reduce((a, b) => a + b) ? 0 : 1);
