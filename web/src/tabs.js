// The example operations, one for each tab. Comments are short: the editor is narrow.
globalThis.exampleTabs = (() => {
  'use strict';
  const tab = (query, variables) => ({ query, variables: variables && JSON.stringify(variables, null, 2) });
  const signIn = tab(`# Type your e-mail address and
# password below and run this. The
# page keeps the tokens until it is
# closed, and all tabs use them.
mutation SignIn($email: String!, $password: String!) {
  login(input: {email: $email, password: $password}) {
    accessToken
    expiresAt
    refreshToken
    user { name }
  }
}
`, { email: '', password: '' });
  const examples = [
    tab(`# All that you may see.
# Ctrl-Enter runs it.
query Homes {
  me { email name }
  homes {
    id
    key
    name
    myRole
    devices(first: 10) {
      nodes {
        id
        key
        name
        type
        online
        latestTelemetry {
          recordedAt
          sensors { temperature humidity powerW }
        }
      }
    }
  }
}
`),
    tab(`# Each reading of a home,
# as soon as it is stored.
subscription Live($homeId: ID!) {
  homeTelemetry(homeId: $homeId) {
    id
    device { key name }
    recordedAt
    timeSource
    sensors { temperature humidity gasPpm powerW }
  }
}
`, { homeId: '1' }),
    tab(`# The last readings of a device,
# newest first.
query History($deviceId: ID!) {
  device(id: $deviceId) {
    key
    online
    lastSeenAt
    telemetry(first: 20) {
      nodes {
        id
        recordedAt
        receivedAt
        sensors { temperature humidity }
        extra
      }
      pageInfo { hasNextPage endCursor }
    }
  }
}
`, { deviceId: '1' }),
    tab(`# Presence and state of a device:
# now, then each change.
# homeDeviceUpdates reports all
# devices of a home.
subscription Presence($deviceId: ID!) {
  deviceUpdates(deviceId: $deviceId) {
    key
    name
    online
    lastSeenAt
    signalStrength
    batteryLevel
    state { reported }
  }
}
`, { deviceId: '4' }),
    tab(`# Switches a lamp on.
# Then run the next tab.
mutation SwitchOn($deviceId: ID!) {
  sendCommand(input: {
    deviceId: $deviceId
    type: "SET_POWER"
    payload: {power: true, brightness: 80}
  }) {
    id
    status
    expiresAt
  }
}
`, { deviceId: '4' }),
    tab(`# The command's state, then each
# change to its end. Leave commandId
# empty for the command that this
# page sent last.
subscription WatchCommand($commandId: ID!) {
  commandProgress(commandId: $commandId) {
    id
    type
    status
    confirmedBy
    result
    error
    device { key name }
  }
}
`, { commandId: '' }),
    tab(`# What the server did
# since it started.
query Status {
  serverStatus {
    version
    uptimeSeconds
    mqtt {
      connected
      messagesReceived
      messagesStored
      messagesDuplicate
      messagesRejected
    }
    database { connected }
  }
}
`),
  ];
  return (isSignedIn) => (isSignedIn ? examples : [signIn, ...examples]);
})();
