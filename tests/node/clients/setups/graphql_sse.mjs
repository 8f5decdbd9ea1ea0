// graphql-sse: subscriptions as server-sent events, one request each ("distinct connections mode").
import { createClient } from 'graphql-sse';
import { resuming } from '../../../../examples/clients/live.mjs';
import { pause } from '../../../../examples/clients/session.mjs';

export function sseClient(url, session) {
  const retry = (retries) => pause(Math.min(250 * 2 ** retries, 15_000));
  return resuming(createClient({ url, fetchFn: session.fetch, retryAttempts: Infinity, retry }));
}
