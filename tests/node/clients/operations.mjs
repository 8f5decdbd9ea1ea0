// What every client does, as an app would write it: fragments, variables with defaults, a condition, an alias.

export const LOGIN = /* GraphQL */ `
  mutation Login($input: LoginInput!) {
    login(input: $input) { accessToken expiresAt user { id email } }
  }
`;

export const HOME = /* GraphQL */ `
  query Home($homeId: ID!, $first: Int = 20, $withLatest: Boolean = true) {
    home(id: $homeId) {
      id
      name
      ...Lists
      lamps: devices(first: $first, filter: { type: LIGHT }) { nodes { id } }
    }
  }
  fragment Lists on Home {
    rooms { id name }
    devices(first: $first) {
      nodes { ...Card }
      pageInfo { hasNextPage endCursor }
    }
  }
  fragment Card on Device {
    id
    key
    name
    type
    online
    metadata
    latestTelemetry @include(if: $withLatest) { ...Reading }
  }
  fragment Reading on Telemetry { id recordedAt sensors { temperature humidity } extra }
`;

export const SEND = /* GraphQL */ `
  mutation Send($input: SendCommandInput!) {
    sendCommand(input: $input) { id type status payload device { id key } }
  }
`;

export const READINGS = /* GraphQL */ `
  subscription Readings($homeId: ID!) {
    telemetry(homeId: $homeId) { ...Live }
  }
  fragment Live on Telemetry { id recordedAt device { id key name } sensors { temperature } }
`;

// A member may not see the invitations; the rest of the screen is there.
export const SETTINGS = /* GraphQL */ `
  query Settings($homeId: ID!) {
    home(id: $homeId) { id name invitations { id email } }
  }
`;

export const DEVICE = /* GraphQL */ `
  query Device($id: ID!) { device(id: $id) { id name } }
`;

export const UNKNOWN_FIELD = /* GraphQL */ `
  query Unknown { me { id nickname } }
`;
