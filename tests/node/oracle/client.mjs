// Requests by HTTP over connections that are kept, as server-sent events, and by WebSocket in both subprotocols.
import http from 'node:http';
import WebSocket from 'ws';
import { members } from './json_text.mjs';

/** How long a request or the next event may take. */
const PATIENCE_MS = 20_000;
const ACCEPT = 'application/graphql-response+json, text/event-stream';
/** The client's and the server's message that starts an operation, or is a response of it. */
const MESSAGES = { 'graphql-transport-ws': ['subscribe', 'next'], 'graphql-ws': ['start', 'data'] };

/** Sends GraphQL requests to one URL on behalf of one viewer. */
export class Client {
  constructor(url, token, connections = 8) {
    this.url = new URL(url);
    this.headers = { accept: ACCEPT, ...(token && { authorization: `Bearer ${token}` }) };
    this.agent = new http.Agent({ keepAlive: true, maxSockets: connections });
  }

  /** The texts of the response: one, or of a stream at most as many as `events`. */
  send(request, events = 1) {
    const { transport = 'POST' } = request;
    if (transport in MESSAGES) return this.bySocket(request, transport, events);
    return transport === 'GET' ? this.byUrl(request, events) : this.byBody(request, events);
  }

  byBody(request, events) {
    const body = bodyOf(request);
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    return this.http('POST', this.url, headers, body, events);
  }

  byUrl({ query, variables, operationName }, events) {
    const url = new URL(this.url);
    for (const [name, value] of Object.entries({ query, variables, operationName })) {
      if (value !== undefined) url.searchParams.set(name, value);
    }
    return this.http('GET', url, {}, '', events);
  }

  http(method, url, headers, body, events) {
    return new Promise((resolve, reject) => {
      const options = { method, agent: this.agent, headers: { ...headers, ...this.headers } };
      const request = http.request(url, options, (response) => {
        response.setEncoding('utf8');
        response.on('error', reject);
        const isStream = response.headers['content-type']?.startsWith('text/event-stream');
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
          if (!isStream || eventsOf(text).length < events) return;
          resolve(eventsOf(text));
          request.destroy();
        });
        response.on('end', () => resolve(isStream ? eventsOf(text) : [text]));
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
function bodyOf({ query, variables, operationName }) {
  const parts = [`"query":${JSON.stringify(query)}`];
  if (variables !== undefined) parts.push(`"variables":${variables}`);
  if (operationName !== undefined) parts.push(`"operationName":${JSON.stringify(operationName)}`);
  return `{${parts.join(',')}}`;
}

/** The data of the `next` events that have arrived whole. */
function eventsOf(text) {
  const whole = text.slice(0, text.lastIndexOf('\n\n') + 2);
  return [...whole.matchAll(/^event: next\ndata: (.*)$/gm)].map((match) => match[1]);
}
