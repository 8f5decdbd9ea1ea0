// The same app, typed by gql.tada.
import { initGraphQLTada, readFragment, type ResultOf, type VariablesOf } from 'gql.tada';
import type { introspection } from './generated/tada';

const graphql = initGraphQLTada<{
  introspection: introspection;
  scalars: { DateTime: string; JSON: unknown; MacAddress: string };
}>();

const Card = graphql(`
  fragment Card on Device { id key name type online latestTelemetry { recordedAt sensors { temperature } extra } }
`);
const HOME = graphql(
  `
    query TadaHome($homeId: ID!, $filter: DeviceFilter) {
      home(id: $homeId) { name devices(filter: $filter, first: 50) { nodes { ...Card } } members { role } }
    }
  `,
  [Card],
);
const SEND = graphql(`
  mutation TadaSend($input: SendCommandInput!) { sendCommand(input: $input) { id status payload } }
`);

export function labels({ home }: ResultOf<typeof HOME>): string[] {
  const cards = home?.devices?.nodes.map((node) => readFragment(Card, node)) ?? [];
  // @ts-expect-error the name may be null
  const unsure: string[] = cards.map((card) => card.name);
  return cards.map((card) => card.name ?? card.key).concat(unsure.slice(1));
}

export const command: VariablesOf<typeof SEND> = { input: { deviceId: '1', type: 'BLINK', onStale: 'EXPIRE' } };
// @ts-expect-error the type of the command is required
export const wrong: VariablesOf<typeof SEND> = { input: { deviceId: '1' } };
export const status = (sent: ResultOf<typeof SEND>): 'PENDING' | undefined =>
  sent.sendCommand.status === 'PENDING' ? 'PENDING' : undefined;
