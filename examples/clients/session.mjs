// Keeps a user signed in. `session.fetch` takes the place of `fetch` in any client: it adds the access token and renews
// it when it expires. Works in browsers, Node and React Native.

/** Renewed this long before it expires. */
const RENEW_BEFORE_MS = 60_000;
/** Pauses before a request that got no answer is sent again. A used refresh token is accepted for 30 s. */
const RETRY_AFTER_MS = [250, 1000, 2000, 4000, 8000];

/** Codes of errors after which the same operation may succeed. */
const TEMPORARY = ['UNAVAILABLE', 'RATE_LIMITED', 'LAGGED'];

const TOKENS = 'accessToken expiresAt refreshToken';
const LOGIN = `mutation($input: LoginInput!) { login(input: $input) { ${TOKENS} } }`;
const REFRESH = `mutation($token: String!) { refreshToken(refreshToken: $token) { ${TOKENS} } }`;
const LOGOUT = 'mutation($token: String!) { logout(refreshToken: $token) }';

/** The session has ended: show the sign-in screen. */
export class SignedOut extends Error {
  name = 'SignedOut';
}

/** The errors of an answer. */
export class RequestFailed extends Error {
  name = 'RequestFailed';
  constructor(errors) {
    super(errors[0].message);
    this.errors = errors;
    this.code = errors[0].extensions?.code;
    this.reason = errors[0].extensions?.reason;
  }
}

/** Whether to try again: there was no answer, the server is busy or restarting, or the access token must be renewed. */
export function isTemporary(error) {
  if (error instanceof SignedOut) return false;
  if (!(error instanceof RequestFailed)) return true;
  return TEMPORARY.includes(error.code) || ['TOKEN_EXPIRED', 'TOKEN_INVALID'].includes(error.reason);
}

export class Session {
  #url;
  #store;
  #fetch;
  #renewal;

  /**
   * `store` keeps the tokens between starts of the app, in the keychain of a phone for example: `load()`, `save(tokens)`,
   * `clear()`. Two tabs may share it.
   */
  constructor(url, store = inMemory(), fetch = globalThis.fetch) {
    this.#url = url;
    this.#store = store;
    this.#fetch = fetch;
  }

  async signIn(email, password) {
    const { login } = await this.#post(LOGIN, { input: { email, password } });
    this.#store.save(login);
  }

  async signOut() {
    const tokens = this.#store.load();
    this.#store.clear();
    if (tokens) await this.#post(LOGOUT, { token: tokens.refreshToken });
  }

  /** An access token that is valid for a minute at least, by the clock of this machine. */
  accessToken = async () => {
    const { accessToken, expiresAt } = this.#tokens();
    const isFresh = Date.parse(expiresAt) - Date.now() > RENEW_BEFORE_MS;
    return isFresh ? accessToken : this.renew(accessToken);
  };

  /** When the access token expires, in milliseconds since 1970. */
  expiresAt = () => Date.parse(this.#tokens().expiresAt);

  /** Another access token than `refused`. Callers at the same time share one exchange. */
  renew(refused) {
    const { accessToken } = this.#tokens();
    if (accessToken !== refused) return accessToken;
    this.#renewal ??= this.#exchange().finally(() => { this.#renewal = undefined; });
    return this.#renewal;
  }

  /** Takes the place of `fetch`. The server answers 401 to an access token that it refuses, before it runs anything. */
  fetch = async (url, init = {}) => {
    const send = (token) => {
      const headers = new Headers(init.headers);
      headers.set('authorization', `Bearer ${token}`);
      return this.#fetch(url, { ...init, headers });
    };
    const token = await this.accessToken();
    const response = await send(token);
    return response.status === 401 ? send(await this.renew(token)) : response;
  };

  /** The data of an operation, for apps without a GraphQL client. */
  request = (query, variables) => this.#post(query, variables, this.fetch);

  #tokens() {
    const tokens = this.#store.load();
    if (!tokens) throw new SignedOut('sign in first');
    return tokens;
  }

  async #exchange() {
    for (let attempt = 0; ; attempt += 1) {
      const { refreshToken: token } = this.#tokens();
      try {
        const { refreshToken: tokens } = await this.#post(REFRESH, { token });
        this.#store.save(tokens);
        return tokens.accessToken;
      } catch (error) {
        if (error.code === 'UNAUTHENTICATED') {
          // Another tab may have renewed the session meanwhile.
          if (this.#tokens().refreshToken !== token) continue;
          this.#store.clear();
          throw new SignedOut(error.message, { cause: error });
        }
        // The answer was lost, or the server is restarting: the user stays signed in.
        if (attempt === RETRY_AFTER_MS.length) throw error;
        await pause(RETRY_AFTER_MS[attempt]);
      }
    }
  }

  async #post(query, variables, send = this.#fetch) {
    const response = await send(this.#url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/graphql-response+json, application/json' },
      body: JSON.stringify({ query, variables }),
    });
    const { data, errors } = await response.json();
    if (errors) throw new RequestFailed(errors);
    return data;
  }
}

/** Sends a request again that got no answer: for requests that have their effect once, as those with an idempotencyKey. */
export async function repeated(send) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await send();
    } catch (error) {
      const mayRepeat = isTemporary(error) || error.code === 'OUTCOME_UNKNOWN';
      if (!mayRepeat || attempt === 5) throw error;
      await pause(500 * attempt);
    }
  }
}

/** Tokens that end with the process. */
export function inMemory() {
  let tokens;
  return { load: () => tokens, save: (given) => { tokens = given; }, clear: () => { tokens = undefined; } };
}

/** Waits for `ms`, give or take a quarter, so that many clients do not return at the same moment. */
export function pause(ms) {
  return new Promise((resolve) => { setTimeout(resolve, ms * (0.75 + Math.random() / 2)); });
}
