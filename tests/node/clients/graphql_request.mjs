// graphql-request: documents as text and as AST, error policies, requests by GET.
import assert from 'node:assert/strict';
import { parse } from 'graphql';
import { GraphQLClient } from 'graphql-request';
import * as checks from './checks.mjs';
import * as operations from './operations.mjs';

export async function graphqlRequest(setup) {
  const given = checks.variables(setup);
  const client = new GraphQLClient(setup.url);
  client.setHeader('authorization', `Bearer ${checks.login(await client.request(operations.LOGIN, given.login), setup)}`);
  checks.home(await client.request(operations.HOME, given.home), setup);
  checks.home(await client.request(parse(operations.HOME), given.home), setup);
  const byGet = new GraphQLClient(setup.url, { method: 'GET', headers: client.requestConfig.headers, jsonSerializer: JSON });
  checks.home(await byGet.request(operations.HOME, given.home), setup);
  checks.sent(await client.request(operations.SEND, given.send), setup);
  checks.sentWithoutPayload(await client.request(operations.SEND, given.sendWithoutPayload));

  const absent = await checks.failure(client.request(operations.DEVICE, given.absent));
  checks.refused(absent.response.errors, 'NOT_FOUND', ['device']);
  const unknown = await checks.failure(client.request(operations.UNKNOWN_FIELD));
  assert.equal(unknown.response.status, 400);
  checks.refused(unknown.response.errors, 'BAD_USER_INPUT', undefined);
  const member = new GraphQLClient(setup.url, {
    headers: { authorization: `Bearer ${setup.memberToken}` }, errorPolicy: 'all',
  });
  const partial = await member.rawRequest(operations.SETTINGS, given.home);
  checks.partial(partial.data, partial.errors, setup);
}
