// Subscriptions of the page, each over a socket of its own (graphql-transport-ws). What ends a stream is a result too:
// GraphiQL shows nothing else, and its own client leaves such an error unhandled.
globalThis.subscribeAt = (() => {
  'use strict';

  /** The messages of a socket, until it is closed. */
  function open(url, payload) {
    const messages = [];
    let wake = () => {};
    const take = (message) => { messages.push(message); wake(); };
    const socket = new WebSocket(url, 'graphql-transport-ws');
    socket.onopen = () => socket.send(JSON.stringify({ type: 'connection_init', payload }));
    socket.onmessage = ({ data }) => take(JSON.parse(data));
    socket.onclose = ({ code, reason }) => {
      const message = `The socket was closed: ${code} ${reason}`;
      take({ type: 'error', payload: [{ message }] });
    };
    return {
      send: (message) => socket.send(JSON.stringify(message)),
      async next() {
        while (messages.length === 0) await new Promise((resolve) => { wake = resolve; });
        return messages.shift();
      },
      close() {
        socket.onclose = null;
        socket.close(1000);
        take({ type: 'complete' });
      },
    };
  }

  async function* results(socket, operation) {
    for (;;) {
      const { type, payload } = await socket.next();
      if (type === 'connection_ack') socket.send({ id: '1', type: 'subscribe', payload: operation });
      if (type === 'ping') socket.send({ type: 'pong' });
      if (type === 'next') yield payload;
      if (type === 'error') yield { errors: payload };
      if (type === 'error' || type === 'complete') break;
    }
    socket.close();
  }

  return (url, headers, operation) => {
    const socket = open(url, headers);
    const iterator = results(socket, operation);
    return {
      next: () => iterator.next(),
      // A generator that waits for a message can't be ended by its own `return`.
      async return() {
        socket.close();
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]() { return this; },
    };
  };
})();
