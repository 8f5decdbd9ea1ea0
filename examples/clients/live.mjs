// Subscriptions over one WebSocket (graphql-ws), which reconnects and resubscribes after a restart of the server, the expiry of
// a token and a change of network. Apollo Client and urql take what `connect` returns as their graphql-ws client.
import { createClient } from 'graphql-ws';
import { RequestFailed, SignedOut, isTemporary, pause } from './session.mjs';

/** A new token is sent this long before the old one expires. */
const RENEW_BEFORE_MS = 60_000;
/** The close code for a token that has expired, is invalid, or was revoked. */
const TOKEN_REFUSED = 4403;
/** `WebSocket.OPEN` */
const OPEN = 1;

/** Node before version 22 has no WebSocket: pass the one of the package `ws`. */
export function connect(url, session, webSocketImpl = globalThis.WebSocket) {
  let renewal, sent, refused;

  /** Asked at each connection, so each has a valid token. */
  async function authorization() {
    sent = refused ? await session.renew(refused) : await session.accessToken();
    refused = undefined;
    return { Authorization: `Bearer ${sent}` };
  }

  /** The server takes a new token from the payload of a `ping`, and the socket stays open. */
  function renewOn(socket) {
    clearTimeout(renewal);
    const renew = async () => {
      const payload = await authorization();
      if (socket.readyState !== OPEN) return;
      socket.send(JSON.stringify({ type: 'ping', payload }));
      renewOn(socket);
    };
    // If this fails, the socket closes when its token expires, and the client connects again.
    renewal = setTimeout(() => renew().catch(() => {}), Math.max(session.expiresAt() - Date.now() - RENEW_BEFORE_MS, 1000));
    renewal.unref?.();
  }

  function closed({ code }) {
    clearTimeout(renewal);
    if (code === TOKEN_REFUSED) refused = sent;
  }

  return resuming(createClient({
    url: url.replace(/^http/, 'ws'),
    webSocketImpl,
    connectionParams: authorization,
    // Without limit, after any failure but the end of the session.
    retryAttempts: Infinity,
    shouldRetry: (reason) => !(reason instanceof SignedOut),
    retryWait: (retries) => pause(Math.min(250 * 2 ** retries, 15_000)),
    on: { connected: renewOn, closed },
  }));
}

/**
 * The client, with subscriptions to readings that continue after the last one they received: graphql-ws sends the payload
 * again at each new connection, so its variable `after` must follow the stream.
 */
export function resuming(client) {
  const subscribe = (payload, sink) => {
    const request = { ...payload, variables: { ...payload.variables } };
    const next = (result) => {
      const reading = result.data?.homeTelemetry ?? result.data?.deviceTelemetry;
      if (reading) request.variables.after = reading.id;
      sink.next(result);
    };
    return client.subscribe(request, { ...sink, next });
  };
  return { ...client, subscribe };
}

/** The events of a subscription until it ends. Throws the error that ends it. */
export async function* events(client, query, variables) {
  const results = [];
  let wake = () => {};
  let end;
  const ends = (reason) => { end ??= { reason }; wake(); };
  const stop = client.subscribe({ query, variables }, {
    next: (result) => { results.push(result); wake(); },
    error: (reason) => ends(Array.isArray(reason) ? new RequestFailed(reason) : reason),
    complete: () => ends(),
  });
  try {
    while (results.length > 0 || !end) {
      if (results.length === 0) await new Promise((resolve) => { wake = resolve; });
      while (results.length > 0) {
        const { data, errors } = results.shift();
        if (errors) throw new RequestFailed(errors);
        yield data;
      }
    }
    if (end.reason) throw end.reason;
  } finally {
    stop();
  }
}

/**
 * The events of a subscription that is opened again after errors that pass. `open` returns the events; it is called each
 * time, to continue after the last event. Throws an error that does not pass.
 */
export async function* keep(open) {
  let failures = 0;
  let wasForbidden = false;
  for (;;) {
    try {
      for await (const event of open()) {
        failures = 0;
        wasForbidden = false;
        yield event;
      }
    } catch (error) {
      // A change of the user's role ends the stream too. Whether the user still may follow it shows at the next attempt.
      const isFirstRefusal = error.code === 'FORBIDDEN' && !wasForbidden;
      if (!isFirstRefusal && !isTemporary(error)) throw error;
      wasForbidden = isFirstRefusal;
    }
    await pause(Math.min(250 * 2 ** failures, 15_000));
    failures += 1;
  }
}
