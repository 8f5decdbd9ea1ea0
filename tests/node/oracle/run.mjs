// Compares a running server with graphql-js: node run.mjs URL SEED COUNT TOKEN…
// The tokens are those of viewers of the frozen home (tests/it/oracle/home.sql). Runs the fixed cases, then COUNT random
// requests. Prints every kind of difference with its smallest request. Exit status 0 only if there is none.
import { readdirSync, readFileSync } from 'node:fs';
import { Client } from './client.mjs';
import { compare, outcomes } from './compare.mjs';
import { reduce } from './reduce.mjs';
import { requestOf, viewerOf } from './requests.mjs';
import { resolverOver } from './resolvers.mjs';
import { describeScalars } from './schema.mjs';
import { takeSnapshot } from './snapshot.mjs';
import { Pools } from './values.mjs';

const CONCURRENCY = 6;
const MAX_KINDS_PRINTED = 40;
const MAX_TEXT = 1_500;

const [url, seed, count, ...tokens] = process.argv.slice(2);

async function viewers() {
  const signedIn = [];
  for (const token of tokens) {
    const client = new Client(url, token);
    const known = [...(signedIn[0]?.snapshot.devices.keys() ?? [])];
    const snapshot = await takeSnapshot((query) => client.post(query), known);
    signedIn.push({ client, snapshot, resolve: resolverOver(snapshot) });
  }
  return { signedIn, signedOut: { client: new Client(url) } };
}

/** The differences that were found by hand or by an earlier run. */
function cases() {
  const folder = new URL('cases/', import.meta.url);
  const read = (file) => JSON.parse(readFileSync(new URL(file, folder), 'utf8')).map((one) => ({ file, ...one }));
  const found = readdirSync(folder).sort().flatMap(read);
  return found.map((one) => ({ done: [], viewer: 0, ...one, number: `${one.file}: ${one.name}` }));
}

async function compared(request, viewer) {
  try {
    return await compare(request, viewer, everybody.signedOut);
  } catch (error) {
    return { kind: `the oracle failed: ${error.stack}` };
  }
}

/** Compares all requests. Returns the differences by kind. */
async function compareAll(requests, everybody) {
  const kinds = new Map();
  const work = async () => {
    for (const request of requests) {
      const viewer = viewerOf(request, everybody);
      const difference = await compared(request, viewer);
      if (!difference) continue;
      if (!kinds.has(difference.kind)) kinds.set(difference.kind, []);
      kinds.get(difference.kind).push({ request, viewer, difference });
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  return kinds;
}

const cut = (text = 'nothing') => (text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text);
const shown = (answer) => cut(`data ${answer?.data} errors ${JSON.stringify(answer?.errors)}`);

async function print(kind, found) {
  const [{ request, viewer }] = found.sort((a, b) => a.request.query.length - b.request.query.length);
  const smallest = await reduce(request, async (candidate) => (await compared(candidate, viewer))?.kind === kind);
  const { ours, theirs } = (await compared(smallest, viewer)) ?? found[0].difference;
  console.log(`\n${found.length} times: ${kind}`);
  console.log(
    `seed ${seed}, request ${request.number}, by ${request.transport ?? 'POST'}, changed by: ${request.done.join(', ') || 'nothing'}`,
  );
  console.log(`document:\n${cut(smallest.query)}`);
  console.log(`variables: ${smallest.variables} operationName: ${smallest.operationName}`);
  console.log(`ours: ${shown(ours)}\ngraphql-js: ${shown(theirs)}`);
}

const everybody = await viewers();
await describeScalars((query) => everybody.signedOut.client.post(query));
const pools = new Pools(everybody.signedIn.map((viewer) => viewer.snapshot));
function* requests() {
  yield* cases();
  for (let number = 0; number < Number(count); number += 1) yield requestOf(seed, number, pools);
}
const kinds = await compareAll(requests(), everybody);
console.log(JSON.stringify(outcomes));
const sorted = [...kinds].sort(([, a], [, b]) => b.length - a.length);
for (const [kind, found] of sorted.slice(0, MAX_KINDS_PRINTED)) await print(kind, found);
const differences = sorted.reduce((sum, [, found]) => sum + found.length, 0);
console.log(JSON.stringify({ seed, requests: Number(count), kinds: kinds.size, differences }));
process.exit(differences === 0 ? 0 : 1);
