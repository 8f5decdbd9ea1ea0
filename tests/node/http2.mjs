// Speaks HTTP/2 without TLS (prior knowledge) to an origin: node http2.mjs ORIGIN.
// Sends several requests at once on one connection and prints what they gave as one JSON line.
import http2 from 'node:http2';

const session = http2.connect(process.argv[2]);
session.on('error', (error) => {
  console.error(error);
  process.exit(1);
});
const ask = (query) =>
  new Promise((resolve, reject) => {
    const request = session.request({ ':method': 'POST', ':path': '/graphql', 'content-type': 'application/json' });
    let body = '';
    let status;
    request.on('response', (headers) => (status = headers[':status']));
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => resolve([status, JSON.parse(body)]));
    request.on('error', reject);
    request.end(JSON.stringify({ query }));
  });
console.log(JSON.stringify(await Promise.all([ask('{ hello }'), ask('{ never }'), ask('mutation { bump(by: 1) }')])));
session.close();
