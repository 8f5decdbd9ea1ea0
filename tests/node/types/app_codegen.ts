// Documents of an app, typed by graphql-codegen's client preset.
import { GraphQLClient } from 'graphql-request';
import { graphql, useFragment } from './generated/codegen';
import { CommandStatus, DeviceType } from './generated/codegen/graphql';

const CARD = graphql(`
  fragment Card on Device { id key name type online latestTelemetry { recordedAt sensors { temperature } extra } }
`);
const HOME = graphql(`
  query AppHome($homeId: ID!, $filter: DeviceFilter, $withRooms: Boolean = true) {
    home(id: $homeId) {
      name
      rooms @include(if: $withRooms) { id name }
      devices(filter: $filter, first: 50) { nodes { ...Card } pageInfo { endCursor hasNextPage } }
      members { role user { name } }
    }
  }
`);
const SEND = graphql(`
  mutation AppSend($input: SendCommandInput!) { sendCommand(input: $input) { id status payload expiresAt } }
`);
const READINGS = graphql(`
  subscription AppReadings($deviceId: ID!, $after: ID) {
    telemetry(deviceId: $deviceId, after: $after) { id recordedAt sensors { temperature humidity } device { key } }
  }
`);

export async function labels(client: GraphQLClient, homeId: string): Promise<string[]> {
  const { home } = await client.request(HOME, { homeId, filter: { online: true, type: DeviceType.Light } });
  const cards = home?.devices?.nodes.map((node) => useFragment(CARD, node)) ?? [];
  // The name may be null: a token without DEVICES_READ sees only the key.
  // @ts-expect-error
  const unsure: string[] = cards.map((card) => card.name);
  return cards.map((card) => card.name ?? card.key).concat(unsure.slice(1));
}

export async function send(client: GraphQLClient, deviceId: string): Promise<boolean> {
  // No payload is needed.
  const { sendCommand } = await client.request(SEND, { input: { deviceId, type: 'BLINK', timeoutSeconds: 5 } });
  // @ts-expect-error the type of the command is required
  await client.request(SEND, { input: { deviceId } });
  return sendCommand.status === CommandStatus.Pending;
}

export const readings = READINGS;
