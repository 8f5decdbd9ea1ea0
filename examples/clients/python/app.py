"""A command-line client. SMARTHOME_EMAIL=… SMARTHOME_PASSWORD=… python app.py COMMAND

  devices                     lists the homes and their devices
  switch DEVICE_ID on|off     sends a command and watches it to its end
  follow HOME_ID              prints each reading; continues where it stopped, also after a restart of this program
"""

import asyncio
import json
import os
import sys
import uuid
from contextlib import aclosing
from pathlib import Path

from session import Session, repeated

URL = os.environ.get("SMARTHOME_URL", "http://127.0.0.1:4000/graphql")
FOLDER = Path(os.environ.get("SMARTHOME_STATE", "."))

HOMES = "query Homes { homes { id name myRole } }"
DEVICES = """query Devices($homeId: ID!, $after: String) {
  devices(homeId: $homeId, first: 100, after: $after) {
    nodes { id key name type online latestTelemetry { recordedAt sensors { temperature humidity } } }
    pageInfo { hasNextPage endCursor }
  }
}"""
SEND = "mutation Send($input: SendCommandInput!) { sendCommand(input: $input) { id status } }"
WATCH = "subscription Watch($id: ID!) { commandProgress(commandId: $id) { id status error } }"
READINGS = """subscription Readings($homeId: ID!, $after: ID) {
  homeTelemetry(homeId: $homeId, afterId: $after) { id device { key } recordedAt sensors { temperature } }
}"""
FINAL = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED", "TIMED_OUT")


class File:
    """A value in a file that only its owner may read."""

    def __init__(self, name):
        self.path = FOLDER / name

    def load(self):
        return json.loads(self.path.read_text()) if self.path.exists() else None

    def save(self, value):
        # Renamed when it is complete: the program may end at any moment.
        new = self.path.with_name(self.path.name + ".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(value))
        new.replace(self.path)

    def clear(self):
        self.path.unlink(missing_ok=True)


async def devices(session):
    for home in (await session.execute(HOMES))["homes"]:
        print(f"home {home['id']} {home['name']} ({home['myRole']})")
        after, has_next = None, True
        while has_next:
            page = (await session.execute(DEVICES, homeId=home["id"], after=after))["devices"]
            for device in page["nodes"]:
                latest = device["latestTelemetry"] or {"sensors": {"temperature": None}}
                state = "online" if device["online"] else "offline"
                print(f"  device {device['id']} {device['key']} {state} {latest['sensors']['temperature']}")
            after, has_next = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]


async def switch(session, device_id, state):
    # With an idempotencyKey, a request that got no answer may be sent again: the command is sent once.
    command = {"deviceId": device_id, "type": "SET_POWER", "payload": {"power": state == "on"}}
    command["idempotencyKey"] = str(uuid.uuid4())
    sent = await repeated(lambda: session.execute(SEND, input=command))
    async with aclosing(session.subscribe(WATCH, {"id": sent["sendCommand"]["id"]})) as events:
        async for event in events:
            update = event["commandProgress"]
            print(update["status"], update["error"] or "", flush=True)
            if update["status"] in FINAL:
                return


async def follow(session, home_id):
    last = File(f".last-reading-{home_id}.json")
    position = {"homeId": home_id, "after": last.load()}
    async for event in session.subscribe(READINGS, position):
        print(json.dumps(event["homeTelemetry"]), flush=True)
        position["after"] = event["homeTelemetry"]["id"]
        last.save(position["after"])


async def main(command, *arguments):
    store = File(".session.json")
    session = Session(URL, store)
    if store.load() is None:
        await session.sign_in(os.environ["SMARTHOME_EMAIL"], os.environ["SMARTHOME_PASSWORD"])
    await {"devices": devices, "switch": switch, "follow": follow}[command](session, *arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
