// Requests by HTTP over connections that are kept, with streams in both formats, and by WebSocket in both subprotocols.
import { createHash } from 'node:crypto';
import http from 'node:http';
import WebSocket from 'ws';
import { members } from './json_text.mjs';

/** How long a request or the next event may take. */
const PATIENCE_MS = 20_000;
/** Idle time of a connection, less than the server's. */
const IDLE_MS = 60_000;
const SINGLE = 'application/graphql-response+json';
const STREAMS = { events: 'text/event-stream', multipart: 'multipart/mixed;subscriptionSpec="1.0"' };
/** The client's and the server's message that starts an operation, or is a response of it. */
const MESSAGES = { 'graphql-transport-ws': ['subscribe', 'next'], 'graphql-ws': ['start', 'data'] };

/** Sends GraphQL requests to one URL on behalf of one viewer. */
export class Client {
  constructor(url, token, connections = 8) {
    this.url = new URL(url);
    this.headers = token ? { authorization: `Bearer ${token}` } : {};
    // A connection that was idle for so long is closed by us: the server closes it later, perhaps as we send.
    this.agent = new http.Agent({ keepAlive: true, maxSockets: connections, timeout: IDLE_MS });
  }

  /** The texts of the response: one, or of a stream at most as many as `events`. */
  async send(request, events = 1) {
    const { transport = 'POST' } = request;
    if (transport in MESSAGES) return this.bySocket(request, transport, events);
    if (transport === 'GET') return this.byUrl(request, events);
    if (transport !== 'hash') return this.byBody(bodyOf(request), transport, events);
    const sha256Hash = createHash('sha256').update(request.query).digest('hex');
    const extensions = `"extensions":{"persistedQuery":{"version":1,"sha256Hash":"${sha256Hash}"}}`;
    const found = await this.byBody(bodyOf({ ...request, query: undefined }, extensions), transport, events);
    return isUnknownHash(found) ? this.byBody(bodyOf(request, extensions), transport, events) : found;
  }

  byBody(body, transport, events) {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const stream = transport === 'multipart' ? STREAMS.multipart : STREAMS.events;
    return this.http('POST', this.url, { ...headers, accept: `${SINGLE}, ${stream}` }, body, events);
  }

  byUrl({ query, variables, operationName }, events) {
    const url = new URL(this.url);
    for (const [name, value] of Object.entries({ query, variables, operationName })) {
      if (value !== undefined) url.searchParams.set(name, value);
    }
    return this.http('GET', url, { accept: `${SINGLE}, ${STREAMS.events}` }, '', events);
  }

  http(method, url, headers, body, events) {
    return new Promise((resolve, reject) => {
      const options = { method, agent: this.agent, headers: { ...headers, ...this.headers } };
      const request = http.request(url, options, (response) => {
        response.setEncoding('utf8');
        response.on('error', reject);
        const read = readerOf(response.headers['content-type']);
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
          if (!read || read(text).length < events) return;
          resolve(read(text));
          request.destroy();
        });
        response.on('end', () => resolve(read ? read(text) : [text]));
      });
      request.setTimeout(PATIENCE_MS, () =>
        request.destroy(new Error(`no answer within ${PATIENCE_MS} ms to ${body}`)),
      );
      request.on('error', reject);
      request.end(body);
    });
  }

  /** A socket serves one operation, because the server limits the messages of a socket. */
  bySocket(request, protocol, events) {
    const [start, next] = MESSAGES[protocol];
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(this.url.href.replace('http', 'ws'), protocol);
      const timer = setTimeout(
        () => finish(new Error(`no message within ${PATIENCE_MS} ms to ${request.query}`)),
        PATIENCE_MS,
      );
      const found = [];
      const finish = (error) => {
        clearTimeout(timer);
        socket.terminate();
        if (error) reject(error);
        else resolve(found);
      };
      socket.on('error', finish);
      socket.on('close', (code, reason) => finish(new Error(`the server closed with ${code} ${reason}`)));
      socket.on('open', () => socket.send(JSON.stringify({ type: 'connection_init', payload: this.headers })));
      socket.on('message', (data) => {
        const text = data.toString();
        const { type, payload } = JSON.parse(text);
        if (type === 'connection_ack') socket.send(`{"id":"1","type":"${start}","payload":${bodyOf(request)}}`);
        if (type === next) found.push(members(text).find(([key]) => key === 'payload')[1]);
        if (type === 'error') found.push(JSON.stringify({ errors: [payload].flat() }));
        if (type === 'error' || type === 'complete' || found.length >= events) finish();
      });
    });
  }

  /** The answer to a document without variables. */
  async post(query) {
    const [text] = await this.send({ query });
    return JSON.parse(text);
  }
}

/** The request's parameters as JSON. Variables are text already. */
function bodyOf({ query, variables, operationName }, ...more) {
  const parts = query === undefined ? more : [`"query":${JSON.stringify(query)}`, ...more];
  if (variables !== undefined) parts.push(`"variables":${variables}`);
  if (operationName !== undefined) parts.push(`"operationName":${JSON.stringify(operationName)}`);
  return `{${parts.join(',')}}`;
}

const isUnknownHash = ([text]) => text?.includes('"PERSISTED_QUERY_NOT_FOUND"');

/** What takes the responses that have arrived whole from a stream's text. Undefined for a single response. */
function readerOf(contentType = '') {
  const all = (text, pattern) => [...text.matchAll(pattern)].map((match) => match[1]);
  if (contentType.startsWith('text/event-stream')) {
    return (text) => all(text.slice(0, text.lastIndexOf('\n\n') + 2), /^event: next\ndata: (.*)$/gm);
  }
  return contentType.startsWith('multipart/mixed') ? (text) => all(text, /^\{"payload":(.*)\}\r\n---/gm) : undefined;
}
