// GraphiQL on this server: addresses come from the location, the token from the page (on `smarthome dev`) or from the
// last sign-in that ran on the page.
(() => {
  'use strict';

  const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
  // The dialogs insert a style element. The content security policy accepts it with this nonce.
  globalThis.__webpack_nonce__ = meta('style-nonce');

  const REFRESH_BEFORE_MS = 60_000;
  const http = new URL('/graphql', window.location.href);
  const ws = new URL(http);
  ws.protocol = ws.protocol === 'https:' ? 'wss:' : 'ws:';

  // Kept in memory: the session ends with the page.
  let session = { accessToken: meta('smarthome-token') };
  let lastCommand = '';

  /** Keeps the tokens of a sign-in and the id of a sent command. */
  function remember(data) {
    for (const value of Object.values(data ?? {})) {
      if (typeof value?.accessToken === 'string') session = value;
      if (/^cmd_/.test(value?.id ?? '')) lastCommand = value.id;
    }
  }

  /** Exchanges the refresh token shortly before the access token expires. One exchange at a time. */
  let refreshing;
  function refresh() {
    const isDue = session.refreshToken && Date.parse(session.expiresAt) - Date.now() < REFRESH_BEFORE_MS;
    if (isDue) {
      refreshing ??= exchange(session.refreshToken).finally(() => { refreshing = undefined; });
    }
    return refreshing;
  }

  async function exchange(refreshToken) {
    const query = 'mutation($t: String!) { refreshToken(refreshToken: $t) { accessToken expiresAt refreshToken } }';
    const response = await fetch(http, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query, variables: { t: refreshToken } }),
    });
    remember((await response.json()).data);
  }

  const fetcher = async (parameters, options) => {
    await refresh();
    const authorization = session.accessToken ? { Authorization: `Bearer ${session.accessToken}` } : {};
    const operation = withLastCommand(parameters);
    if (isSubscription(parameters, options?.documentAST)) {
      return subscribeAt(ws.href, { ...authorization, ...options?.headers }, operation);
    }
    const run = GraphiQL.createFetcher({ url: http.href, headers: authorization, enableIncrementalDelivery: false });
    const answer = await run(operation, options);
    remember(answer.data);
    return answer;
  };

  function isSubscription({ operationName }, document) {
    const operations = document?.definitions.filter(({ kind }) => kind === 'OperationDefinition') ?? [];
    return operations.find(({ name }) => !operationName || name?.value === operationName)?.operation === 'subscription';
  }

  function withLastCommand(parameters) {
    if (parameters.variables?.commandId !== '' || !lastCommand) return parameters;
    return { ...parameters, variables: { ...parameters.variables, commandId: lastCommand } };
  }

  /** Shows an error of GraphiQL itself in place of an empty page. */
  class ErrorBoundary extends React.Component {
    state = {};
    static getDerivedStateFromError(error) { return { error }; }
    render() {
      const { error } = this.state;
      if (!error) return this.props.children;
      const reload = React.createElement('button', { onClick: () => window.location.reload() }, 'Reload');
      return React.createElement('p', { className: 'loading' }, `GraphiQL failed: ${error.message} `, reload);
    }
  }

  const tabs = exampleTabs(Boolean(session.accessToken));
  // GraphiQL shows the variables of the first of its default tabs only if it finds them in its storage.
  const stored = window.localStorage;
  if (stored.getItem('graphiql:tabState') === null && tabs[0].variables) {
    stored.setItem('graphiql:variables', tabs[0].variables);
  }

  ReactDOM.createRoot(document.getElementById('graphiql')).render(
    React.createElement(ErrorBoundary, null, React.createElement(GraphiQL, {
      fetcher,
      plugins: [GraphiQLPluginExplorer.explorerPlugin()],
      defaultTabs: tabs,
      defaultEditorToolsVisibility: 'variables',
      // A token typed in by hand belongs to this page load only.
      shouldPersistHeaders: false,
      inputValueDeprecation: true,
    })),
  );
})();
