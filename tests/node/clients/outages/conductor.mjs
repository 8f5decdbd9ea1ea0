// Asks the Rust test that started this process for events: one JSON object a line, answered by a line.
import { createInterface } from 'node:readline';

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function ask(request) {
  console.log(JSON.stringify(request));
  const { value, done } = await answers.next();
  if (done || value !== 'done') throw new Error(`${request.do}: ${value}`);
}

/** Publishes readings of the device, with these temperatures. */
export const publish = (from, to) => ask({ do: 'publish', from, to });
/** All access tokens expire. */
export const expire = () => ask({ do: 'expire' });
/** The server's clock moves. */
export const advance = (minutes) => ask({ do: 'advance', minutes });
/** Stops the server, publishes readings, starts the server again. */
export const restart = (from, to) => ask({ do: 'restart', from, to });
/** Gives all members a lower role, which may still read. */
export const demote = () => ask({ do: 'demote' });
/** Removes all members from the home. */
export const remove = () => ask({ do: 'remove' });

/** Waits until `isMet`, or fails with what `describe` says. */
export async function until(isMet, describe) {
  const deadline = Date.now() + 40_000;
  while (!isMet()) {
    if (Date.now() > deadline) throw new Error(`not within 40 s: ${describe()}`);
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
}
