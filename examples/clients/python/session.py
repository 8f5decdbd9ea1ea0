"""Keeps a user signed in, and subscriptions open: over lost answers, expired tokens and restarts of the server."""

import asyncio
import random
from contextlib import aclosing
from datetime import datetime, timezone

from gql import Client, GraphQLRequest
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport
from gql.transport.exceptions import TransportError, TransportQueryError

# Renewed this long before it expires.
RENEW_BEFORE_S = 60
# Pauses before a refresh that got no answer is sent again. A used refresh token is accepted for 30 s.
RETRY_AFTER_S = [0.25, 1, 2, 4, 8]
# Codes of errors after which the same operation may succeed.
TEMPORARY = ("LAGGED", "UNAVAILABLE", "RATE_LIMITED")
# What a request raises that got no answer.
NO_ANSWER = (TransportError, OSError, asyncio.TimeoutError)

TOKENS = "accessToken expiresAt refreshToken"
LOGIN = f"mutation($input: LoginInput!) {{ login(input: $input) {{ {TOKENS} }} }}"
REFRESH = f"mutation($token: String!) {{ refreshToken(refreshToken: $token) {{ {TOKENS} }} }}"
LOGOUT = "mutation($token: String!) { logout(refreshToken: $token) }"


class SignedOut(Exception):
    """The session has ended: sign in again."""


def extensions(error):
    """`code`, `reason` and more of a failed operation."""
    return (error.errors or [{}])[0].get("extensions", {})


def is_temporary(error):
    """Whether to try again: the server is busy or restarting, or the access token must be renewed."""
    found = extensions(error)
    return found.get("code") in TEMPORARY or found.get("reason") in ("TOKEN_EXPIRED", "TOKEN_INVALID")


async def pause(seconds):
    """Give or take a quarter, so that many clients do not return at the same moment."""
    await asyncio.sleep(seconds * random.uniform(0.75, 1.25))


async def repeated(send):
    """Sends a request again that got no answer: for requests that have their effect once, as those with an
    idempotencyKey."""
    for attempt in range(1, 6):
        try:
            return await send()
        except TransportQueryError as error:
            may_repeat = is_temporary(error) or extensions(error).get("code") == "OUTCOME_UNKNOWN"
            if not may_repeat or attempt == 5:
                raise
        except NO_ANSWER:
            if attempt == 5:
                raise
        await pause(0.5 * attempt)


class Session:
    """`store` keeps the tokens between starts of the program: `load()`, `save(tokens)`, `clear()`. Two processes may share
    it."""

    def __init__(self, url, store):
        self.url = url
        self.store = store
        self._renewing = asyncio.Lock()

    async def sign_in(self, email, password):
        data = await self._post(LOGIN, {"input": {"email": email, "password": password}})
        self.store.save(data["login"])

    async def sign_out(self):
        tokens = self.store.load()
        self.store.clear()
        if tokens:
            await self._post(LOGOUT, {"token": tokens["refreshToken"]})

    async def execute(self, query, **variables):
        """The data of a query or mutation. The server refuses a token before it runs anything."""
        token = await self.access_token()
        try:
            return await self._post(query, variables, token)
        except TransportQueryError as error:
            if extensions(error).get("code") != "UNAUTHENTICATED":
                raise
        return await self._post(query, variables, await self.renew(token))

    async def access_token(self):
        """A token that is valid for a minute at least, by the clock of this machine."""
        tokens = self._tokens()
        is_fresh = self.lifetime() > RENEW_BEFORE_S
        return tokens["accessToken"] if is_fresh else await self.renew(tokens["accessToken"])

    def lifetime(self):
        """Seconds until the access token expires."""
        expires_at = datetime.fromisoformat(self._tokens()["expiresAt"])
        return (expires_at - datetime.now(timezone.utc)).total_seconds()

    async def renew(self, refused):
        """Another access token than `refused`. Callers at the same time share one exchange."""
        async with self._renewing:
            if self._tokens()["accessToken"] == refused:
                await self._exchange()
            return self._tokens()["accessToken"]

    async def _exchange(self):
        for wait in [*RETRY_AFTER_S, None]:
            token = self._tokens()["refreshToken"]
            try:
                return self.store.save((await self._post(REFRESH, {"token": token}))["refreshToken"])
            except TransportQueryError as error:
                if extensions(error).get("code") == "UNAUTHENTICATED":
                    # Another process may have renewed the session meanwhile.
                    if self._tokens()["refreshToken"] != token:
                        continue
                    self.store.clear()
                    raise SignedOut(str(error)) from error
                if wait is None:
                    raise
            except NO_ANSWER:
                if wait is None:
                    raise
            await pause(wait)

    def _tokens(self):
        tokens = self.store.load()
        if tokens is None:
            raise SignedOut("sign in first")
        return tokens

    async def _post(self, query, variables, token=None):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with Client(transport=AIOHTTPTransport(self.url, headers=headers)) as connection:
            return await connection.execute(GraphQLRequest(query, variable_values=variables))

    async def subscribe(self, query, variables):
        """The events of a subscription until it ends. After a lost connection it subscribes again with `variables`:
        change them with each event to continue after it."""
        failures, was_forbidden = 0, False
        while True:
            try:
                # gql does not tell why a socket was closed. Over HTTP, a token that the server refuses is renewed.
                await self.execute("{ __typename }")
                transport = AIOHTTPWebsocketsTransport(
                    self.url.replace("http", "ws", 1),
                    init_payload={"Authorization": f"Bearer {await self.access_token()}"},
                    subprotocols=[AIOHTTPWebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
                )
                async with Client(transport=transport) as connection:
                    renewal = asyncio.create_task(self._renew_on(transport))
                    request = GraphQLRequest(query, variable_values=dict(variables))
                    try:
                        async with aclosing(connection.subscribe(request)) as events:
                            async for event in events:
                                failures, was_forbidden = 0, False
                                yield event
                    finally:
                        renewal.cancel()
                return
            except TransportQueryError as error:
                # A change of the user's role ends the stream too. Whether the user still may follow it shows at the
                # next attempt.
                is_first_refusal = extensions(error).get("code") == "FORBIDDEN" and not was_forbidden
                if not is_first_refusal and not is_temporary(error):
                    raise
                was_forbidden = is_first_refusal
            except NO_ANSWER:
                pass  # the connection was lost, or there is none yet
            await pause(min(0.25 * 2**failures, 15))
            failures += 1

    async def _renew_on(self, transport):
        """The server takes a new token from the payload of a `ping`, and the socket stays open."""
        while True:
            await asyncio.sleep(max(self.lifetime() - RENEW_BEFORE_S, 1))
            token = await self.access_token()
            await transport.send_ping({"Authorization": f"Bearer {token}"})
