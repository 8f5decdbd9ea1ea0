"""Runs gql against a server: python gql_client.py SETUP, where SETUP is JSON of the Rust test.

HTTP with the schema fetched by introspection, and subscriptions by both WebSocket transports with their default
subprotocols (`graphql-ws, graphql-transport-ws`).
"""

import asyncio
import json
import re
import sys
from contextlib import aclosing

from gql import Client, GraphQLRequest, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport
from gql.transport.exceptions import TransportConnectionFailed, TransportQueryError
from gql.transport.websockets import WebsocketsTransport
from graphql import GraphQLError

SETUP = json.loads(sys.argv[1])
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")

LOGIN = "mutation Login($input: LoginInput!) { login(input: $input) { accessToken expiresAt } }"
HOME = """
  query Home($homeId: ID!, $first: Int = 20, $withLatest: Boolean = true) {
    home(id: $homeId) { name devices(first: $first) { nodes { ...Card } } }
  }
  fragment Card on Device {
    id type metadata latestTelemetry @include(if: $withLatest) { recordedAt sensors { temperature } }
  }
"""
SEND = "mutation Send($input: SendCommandInput!) { sendCommand(input: $input) { id payload } }"
READINGS = """
  subscription Readings($homeId: ID!) { telemetry(homeId: $homeId) { ...Live } }
  fragment Live on Telemetry { id recordedAt device { id key name } sensors { temperature } }
"""
DEVICE = "query Device($id: ID!) { device(id: $id) { id } }"


def request(text, **variables):
    return GraphQLRequest(text, variable_values=variables)


async def over_http(token):
    transport = AIOHTTPTransport(SETUP["url"], headers={"Authorization": f"Bearer {token}"})
    async with Client(transport=transport, fetch_schema_from_transport=True) as session:
        home = (await session.execute(request(HOME, homeId=SETUP["homeId"])))["home"]
        nodes = home["devices"]["nodes"]
        assert home["name"] == "Test" and [node["id"] for node in nodes] == SETUP["deviceIds"], home
        assert TIME.match(nodes[0]["latestTelemetry"]["recordedAt"]), nodes
        device = SETUP["deviceIds"][0]
        sent = await session.execute(request(SEND, input={"deviceId": device, "type": "BLINK"}))
        assert sent["sendCommand"]["payload"] == {}, sent
        try:
            await session.execute(request(DEVICE, id="987654321"))
            raise AssertionError("an absent device was found")
        except TransportQueryError as error:
            assert error.errors[0]["extensions"]["code"] == "NOT_FOUND", error.errors
            assert error.data == {"device": None}, error.data
        # The fetched schema refuses this document; the server never sees it.
        try:
            await session.execute(request("{ me { nickname } }"))
            raise AssertionError("an unknown field was accepted")
        except GraphQLError as error:
            assert "nickname" in error.message, error


async def over_socket(transport_type, token):
    transport = transport_type(SETUP["socketUrl"], init_payload={"Authorization": f"Bearer {token}"})
    async with Client(transport=transport) as session:
        # Two operations on one connection.
        me = await session.execute(gql("{ me { email } }"))
        assert me["me"]["email"] == SETUP["email"], me
        async with aclosing(session.subscribe(request(READINGS, homeId=SETUP["homeId"]))) as events:
            n_events = 0
            async for event in events:
                assert event["telemetry"]["sensors"]["temperature"] == 21.5, event
                n_events += 1
                if n_events == 2:
                    break
        try:
            async with aclosing(session.subscribe(request(READINGS, homeId="987654321"))) as events:
                async for event in events:
                    raise AssertionError(f"an event of an absent home: {event}")
        except TransportQueryError as error:
            assert error.errors[0]["extensions"]["code"] == "NOT_FOUND", error.errors
        else:
            raise AssertionError("the stream of an absent home ended without an error")


async def refused_socket(transport_type):
    transport = transport_type(SETUP["socketUrl"], init_payload={"Authorization": "Bearer wrong"})
    try:
        async with Client(transport=transport):
            raise AssertionError("a wrong token was accepted")
    except (TransportQueryError, TransportConnectionFailed):
        return
    except Exception as error:  # each transport has its own type for a close before the acknowledgement
        assert not isinstance(error, AssertionError), error


async def main():
    async with Client(transport=AIOHTTPTransport(SETUP["url"])) as session:
        credentials = {"email": SETUP["email"], "password": SETUP["password"]}
        login = (await session.execute(request(LOGIN, input=credentials)))["login"]
        assert TIME.match(login["expiresAt"]), login
    token = login["accessToken"]
    await over_http(token)
    for transport_type in (WebsocketsTransport, AIOHTTPWebsocketsTransport):
        await over_socket(transport_type, token)
        await refused_socket(transport_type)
    print("ok")


asyncio.run(asyncio.wait_for(main(), 50))
