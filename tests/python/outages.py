"""gql through the expiry of tokens, lost answers, two parallel refreshes, a sign-in by another process, a restart of the
server, the removal of its user from the home, and a sign-out: python outages.py SETUP. Until then it may not sign in again,
miss a reading, or receive one twice.

The session is that of examples/clients/python. The Rust test that started this process performs the events: one JSON
object a line, answered by a line."""

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/clients/python"))

from gql.transport.exceptions import TransportQueryError  # noqa: E402
from session import LOGOUT, REFRESH, Session, extensions, repeated  # noqa: E402

SETUP = json.loads(sys.argv[1])
USER = SETUP["users"][0]
ME = "query Me { me { email } }"
READINGS = """subscription Readings($homeId: ID!, $after: ID) {
  homeTelemetry(homeId: $homeId, afterId: $after) { id sensors { temperature } }
}"""
DEVICES = "query Devices($homeId: ID!) { devices(homeId: $homeId) { nodes { id commands { nodes { id } } } } }"
SEND = "mutation Send($input: SendCommandInput!) { sendCommand(input: $input) { id } }"


class Store:
    def __init__(self, tokens=None):
        self.tokens = tokens

    def load(self):
        return self.tokens

    def save(self, tokens):
        self.tokens = tokens

    def clear(self):
        self.tokens = None


class FaultySession(Session):
    """Loses answers of refreshes or commands, or awaits something before a refresh."""

    n_lost = 0
    before_refresh = None

    async def _post(self, query, variables, token=None):
        is_refresh = "refreshToken(" in query
        if is_refresh and self.before_refresh:
            before, self.before_refresh = self.before_refresh, None
            await before()
        answer = await super()._post(query, variables, token)
        if (is_refresh or query == SEND) and self.n_lost > 0:
            self.n_lost -= 1
            raise OSError("the connection was lost before the answer arrived")
        return answer


async def ask(**request):
    print(json.dumps(request), flush=True)
    answer = await asyncio.to_thread(sys.stdin.readline)
    assert answer == "done\n", (request, answer)


class App:
    def __init__(self):
        self.session = FaultySession(SETUP["url"], Store())
        self.received, self.last, self.end = [], 0, None

    async def follow(self):
        position = {"homeId": SETUP["homeId"], "after": SETUP["after"]}
        try:
            async for event in self.session.subscribe(READINGS, position):
                position["after"] = event["homeTelemetry"]["id"]
                self.received.append(event["homeTelemetry"]["sensors"]["temperature"])
        except TransportQueryError as error:
            self.end = error

    async def device(self):
        return (await self.session.execute(DEVICES, homeId=SETUP["homeId"]))["devices"]["nodes"][0]

    async def publish(self, action="publish"):
        start, self.last = self.last + 1, self.last + 3
        await ask(do=action, **{"from": start, "to": self.last})

    async def check(self, what):
        me = await self.session.execute(ME)
        assert me["me"]["email"] == USER["email"], what
        await until(lambda: len(self.received) >= self.last or self.end, f"{what}: {self.received}, {self.end}")
        assert self.received == list(range(1, self.last + 1)), f"{what}: {self.received}"


async def until(is_met, what):
    async with asyncio.timeout(40):
        while not is_met():
            await asyncio.sleep(0.01)
    assert is_met(), what


async def main():
    app = App()
    await app.session.sign_in(USER["email"], USER["password"])
    following = asyncio.create_task(app.follow())
    await app.publish()
    await app.check("at the start")

    await ask(do="expire")
    await app.publish()
    await app.check("after the access token expired")

    app.session.n_lost = 2
    await ask(do="expire")
    await app.publish()
    await app.check("after the answers of two refreshes were lost")
    assert app.session.n_lost == 0

    # Another process with the same store.
    twin = FaultySession(SETUP["url"], app.session.store)
    await ask(do="expire")
    app.session.before_refresh = twin.before_refresh = asyncio.Barrier(2).wait
    await asyncio.gather(app.publish(), twin.execute(ME), app.session.execute(ME))
    await app.check("after two refreshes at once")
    await ask(do="expire")
    await app.publish()
    await twin.execute(ME)
    await app.check("after the expiry that followed two refreshes at once")

    async def sign_in_elsewhere():
        other = Session(SETUP["url"], app.session.store)
        await other._post(LOGOUT, {"token": other.store.load()["refreshToken"]})
        await other.sign_in(USER["email"], USER["password"])

    await ask(do="expire")
    app.session.before_refresh = sign_in_elsewhere
    await app.publish()
    await app.check("after a process with the same store had signed in again during a refresh")
    assert app.session.before_refresh is None

    device = await app.device()
    command = {"deviceId": device["id"], "type": "RESET", "idempotencyKey": "one-tap"}
    app.session.n_lost = 1
    sent = await repeated(lambda: app.session.execute(SEND, input=command))
    assert app.session.n_lost == 0
    assert (await app.device())["commands"]["nodes"] == [sent["sendCommand"]], "the command is sent once"

    await app.publish("restart")
    await app.publish()
    await app.check("after a restart of the server")

    await ask(do="demote")
    await app.publish()
    await app.check("after a change of role")

    await ask(do="remove")
    await until(lambda: app.end, "the stream of a removed member ends")
    assert extensions(app.end).get("code") in ("NOT_FOUND", "FORBIDDEN"), app.end.errors
    await app.check("after the removal from the home")
    await following

    token = app.session.store.load()["refreshToken"]
    await app.session.sign_out()
    assert app.session.store.load() is None
    try:
        raise AssertionError(await app.session._post(REFRESH, {"token": token}))
    except TransportQueryError as error:
        assert extensions(error)["code"] == "UNAUTHENTICATED", error


asyncio.run(main())
