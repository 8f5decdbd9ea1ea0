// GraphiQL on this server: addresses come from the location, the token (on `smarthome dev`) from the page.
(() => {
  'use strict';

  const token = document.querySelector('meta[name="smarthome-token"]').content;
  const authorization = token ? { Authorization: `Bearer ${token}` } : {};
  const http = new URL('/graphql', window.location.href);
  const ws = new URL(http);
  ws.protocol = ws.protocol === 'https:' ? 'wss:' : 'ws:';

  const fetcher = GraphiQL.createFetcher({
    url: http.href,
    subscriptionUrl: ws.href,
    headers: authorization,
    wsConnectionParams: authorization,
  });

  const tab = (query, variables) => ({ query, variables: variables && JSON.stringify(variables, null, 2) });
  const signIn = tab(`# Copy the accessToken into the headers below as {"Authorization": "Bearer …"}.
mutation SignIn($email: String!, $password: String!) {
  login(input: {email: $email, password: $password}) {
    accessToken
    expiresAt
  }
}
`, { email: '', password: '' });
  const examples = [
    tab(`# Everything you may see. Run it with Ctrl-Enter, then try the next tabs.
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
        latestTelemetry { recordedAt sensors { temperature humidity powerW } }
      }
    }
  }
}
`),
    tab(`# Every reading of a home, a moment after it is committed.
subscription Live($homeId: ID!) {
  telemetry(homeId: $homeId) {
    id
    device { key name }
    recordedAt
    timeSource
    sensors { temperature humidity gasPpm powerW }
  }
}
`, { homeId: '1' }),
    tab(`# The last readings of one device, newest first.
query History($deviceId: ID!) {
  device(id: $deviceId) {
    key
    online
    lastSeenAt
    telemetry(first: 20) {
      nodes { id recordedAt receivedAt sensors { temperature humidity } extra }
      pageInfo { hasNextPage endCursor }
    }
  }
}
`, { deviceId: '1' }),
    tab(`# Who is here: opens with the present state, then every change.
subscription Presence($homeId: ID!) {
  deviceStatus(homeId: $homeId) { key name online lastSeenAt signalStrength batteryLevel }
}
`, { homeId: '1' }),
    tab(`# What the server did since it started.
query Status {
  serverStatus {
    version
    uptimeSeconds
    mqtt { connected messagesReceived messagesStored messagesDuplicate messagesRejected }
    database { connected }
  }
}
`),
  ];

  ReactDOM.createRoot(document.getElementById('graphiql')).render(
    React.createElement(GraphiQL, {
      fetcher,
      plugins: [GraphiQLPluginExplorer.explorerPlugin()],
      defaultTabs: token ? examples : [signIn, ...examples],
      defaultEditorToolsVisibility: 'variables',
      // A token typed in by hand belongs to this page load only.
      shouldPersistHeaders: false,
      inputValueDeprecation: true,
    }),
  );
})();
