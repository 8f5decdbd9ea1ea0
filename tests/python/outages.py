"""gql through the expiry of tokens, a lost refresh answer, two parallel refreshes, a restart of the server and the removal
of its user from the home: python outages.py SETUP. It may not sign in again, miss a reading, or receive one twice.

The session is that of examples/clients/python. The Rust test that started this process performs the events: one JSON
object a line, answered by a line."""

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/clients/python"))

from gql.transport.exceptions import TransportQueryError  # noqa: E402
from session import Session, extensions  # noqa: E402

SETUP = json.loads(sys.argv[1])
USER = SETUP["users"][0]
ME = "query Me { me { email } }"
READINGS = """subscription Readings($homeId: ID!, $after: ID) {
  telemetry(homeId: $homeId, after: $after) { id sensors { temperature } }
}"""


class Store:
    def __init__(self, tokens=None):
        self.tokens = tokens

    def load(self):
        return self.tokens

    def save(self, tokens):
        self.tokens = tokens

    def clear(self):
        raise AssertionError("signed out")


class FaultySession(Session):
    """Loses answers of refreshes, or sends two of them at the same time."""

    n_lost = 0
    barrier = None

    async def _post(self, query, variables, token=None):
        is_refresh = "refreshToken(" in query
        if is_refresh and self.barrier:
            barrier, self.barrier = self.barrier, None
            await barrier.wait()
        answer = await super()._post(query, variables, token)
        if is_refresh and self.n_lost > 0:
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
                position["after"] = event["telemetry"]["id"]
                self.received.append(event["telemetry"]["sensors"]["temperature"])
        except TransportQueryError as error:
            self.end = error

    async def publish(self, action="publish"):
        start, self.last = self.last + 1, self.last + 3
        await ask(do=action, **{"from": start, "to": self.last})

    async def check(self, what, session=None):
        me = await (session or self.session).execute(ME)
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

    twin = FaultySession(SETUP["url"], Store(app.session.store.load()))
    await ask(do="expire")
    app.session.barrier = twin.barrier = asyncio.Barrier(2)
    await asyncio.gather(app.publish(), twin.execute(ME), app.session.execute(ME))
    await app.check("after two refreshes at once")
    await ask(do="expire")
    await app.publish()
    await app.check("after the expiry that followed two refreshes at once", twin)
    await app.check("after the expiry that followed two refreshes at once")

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


asyncio.run(main())
