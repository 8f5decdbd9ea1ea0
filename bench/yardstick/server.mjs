// The yardstick of the benchmark: README.md one folder up says what it does and what it leaves out.
// PORT, MQTT_URL, MQTT_TOPIC and the variables of libpq (PGHOST, PGUSER, PGDATABASE) say where everything is.
import { on } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { buildSchema, execute, parse, subscribe, validate } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'ws';
import { ingest, stored } from './ingest.mjs';
import { deviceById, devicesByHomeKey, devicesOf, latestLoader, readingsOf } from './store.mjs';

const schema = buildSchema(readFileSync(new URL('schema.graphql', import.meta.url), 'utf8'));
const field = (type, name) => schema.getType(type).getFields()[name];
schema.getType('DateTime').serialize = (time) => time.toISOString();
field('Query', 'device').resolve = (_, { id }) => deviceById(id);
field('Query', 'devices').resolve = async (_, { homeId, first }) => ({ nodes: await devicesOf(homeId, first) });
field('Device', 'latestTelemetry').resolve = ({ id }, _, { latest }) => latest.load(id);
field('Device', 'telemetry').resolve = async ({ id }, { first }) => ({ nodes: await readingsOf(id, first) });
// A reading is one flat row.
field('Telemetry', 'sensors').resolve = (reading) => reading;
field('Subscription', 'telemetry').subscribe = async function* (_, { homeId, deviceId }) {
  for await (const [telemetry] of on(stored, homeId ? `home:${homeId}` : `device:${deviceId}`)) yield { telemetry };
};

/** Parsed and validated documents by their text. */
const documents = new Map();
function documentOf(text) {
  let document = documents.get(text);
  if (!document) {
    document = parse(text);
    const errors = validate(schema, document);
    if (errors.length > 0) throw errors[0];
    documents.set(text, document);
  }
  return document;
}

async function answer(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const { query, variables } = JSON.parse(Buffer.concat(chunks).toString());
  return execute({ schema, document: documentOf(query), variableValues: variables, contextValue: { latest: latestLoader() } });
}

const server = createServer(async (request, response) => {
  let [status, body] = [200, undefined];
  try {
    body = await answer(request);
  } catch (error) {
    [status, body] = [400, { errors: [{ message: error.message }] }];
  }
  const text = Buffer.from(JSON.stringify(body));
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'content-length': text.length });
  response.end(text);
});
useServer({ schema, execute, subscribe }, new WebSocketServer({ server, path: '/graphql' }));

const [, home] = process.env.MQTT_TOPIC.split('/');
const deviceByKey = new Map((await devicesByHomeKey(home)).map((device) => [device.key, device]));
ingest(process.env.MQTT_URL, process.env.MQTT_TOPIC, deviceByKey);
server.listen(Number(process.env.PORT), '127.0.0.1');
