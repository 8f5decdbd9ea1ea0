"""A smart-home device in MicroPython (README.md). The same file runs on a board and on MicroPython for Linux."""
import gc, json, os, random, socket, struct, time
from chumicro_mqtt import MQTTClient
from chumicro_sockets import ssl_context_with_ca
from chumicro_sockets.sockets_factory import fixed_connector_factory
from chumicro_timing.ticks import ticks_diff, ticks_ms

try:
    import machine, network
    relay = machine.Pin(5, machine.Pin.OUT)
except (ImportError, AttributeError):  # not a board
    network = relay = None

LIMITS = {"sampleRate": (0.1, 120)}  # keys of a configuration: seconds, below the server's presence timeout
OUTBOX, REMEMBERED = 200, 32  # readings that wait for the broker, commands whose answers are kept
LARGEST = 9 * 1024  # bytes of a message to the device, with its topic
outputs = {"power": False}  # what the device is: its state, which each status has


def read_sensors():  # replace it by your sensors
    return {"temperature": 20 + ticks_ms() // 1000 % 50 / 10}


def execute(kind, payload):  # the result of a command; what it raises is the reason of its failure
    if kind != "SET_POWER":
        raise ValueError("unknown type " + kind)
    if relay:
        relay.value(payload["power"])
    outputs["power"] = payload["power"]
    print("power", payload["power"])
    return {"power": payload["power"]}


def status():  # the whole state: the server replaces the one before
    return {"online": True, "status": dict(outputs)}


def fault(key, value):  # what is wrong with a value of a configuration, if anything
    if key not in LIMITS:
        return "unknown key"
    if type(value) not in (int, float) or not LIMITS[key][0] <= value <= LIMITS[key][1]:
        return "must be a number from {} to {}".format(*LIMITS[key])


class Device:
    def __init__(self, settings):
        self.settings, self.topic, self.client, self.attempts = settings, settings["topic"] + "/", None, 0
        self.uptime, self.last_tick, self.booted_at = 0, ticks_ms(), None  # milliseconds; the last since 1970
        self.answers, self.readings, self.sending = [], [], None  # the outbox
        self.due = {"connection": 0, "time": 0, "reading": 0}
        self.state = {"clientId": settings["clientId"], "config": {"sampleRate": 30}, "done": []}
        try:
            with open("state.json") as file:
                state = json.load(file)
            if state["clientId"] == settings["clientId"]:  # not of a device that this one replaces
                self.state = state
        except (OSError, ValueError):
            print("first start")

    def save(self):
        with open("state.new", "w") as file:
            json.dump(self.state, file)
        os.rename("state.new", "state.json")

    def is_due(self, name, seconds):
        if self.uptime >= self.due[name]:
            self.due[name] = self.uptime + int(seconds * 1000)
            return True

    def ask_time(self):  # SNTP, RFC 4330
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.settimeout(1)
            server = self.settings.get("ntp", "pool.ntp.org"), self.settings.get("ntpPort", 123)
            udp.sendto(b"\x1b" + bytes(47), socket.getaddrinfo(*server)[0][-1])
            seconds, fraction = struct.unpack("!II", udp.recv(48)[40:])
            self.booted_at = (seconds - 2208988800) % 2**32 * 1000 + (fraction * 1000 >> 32) - self.uptime
            self.due["time"] = self.uptime + 3600000
        except (OSError, ValueError) as error:
            print("no time:", error)
        finally:
            udp.close()

    def connect(self):
        gc.collect()
        ca, tls = self.settings.get("ca"), None
        if ca:
            with open(ca, "rb") as file:
                tls = ssl_context_with_ca(file.read())
        self.client = MQTTClient(
            transport_factory=fixed_connector_factory(self.settings["host"], self.settings["port"], ssl_context=tls),
            client_id=self.settings["clientId"], username=self.settings["username"],
            password=self.settings["password"], clean_session=False, keep_alive_seconds=30, rx_buffer_size=LARGEST,
            will_topic=self.topic + "status", will_message=b'{"online":false}', will_qos=1)
        self.client.on_connect, self.client.on_message = self.on_connect, self.on_message
        self.client.connect()

    def on_connect(self):  # in this order: then the server sends what the device may have missed
        print("connected")
        self.attempts = 0
        self.client.subscribe(self.topic + "commands", 1)
        self.client.subscribe(self.topic + "config", 1)
        self.client.publish(self.topic + "status", json.dumps(status()), qos=1)

    def on_message(self, topic, payload):
        try:
            message = json.loads(bytes(payload))
            self.answers += self.command(message) if "commandId" in message else [self.configure(message)]
        except (ValueError, KeyError, TypeError) as error:  # such as the empty one that clears a configuration
            print("not understood:", topic, error)

    def command(self, message):  # the answer, and the state that the command has changed
        for answer in self.state["done"]:
            if answer["commandId"] == message["commandId"]:  # executed before
                return [answer]
        answer = {"commandId": message["commandId"], "status": "FAILED", "error": "the device restarted"}
        self.state["done"] = self.state["done"][1 - REMEMBERED:] + [answer]
        self.save()  # before it is executed: a restart in between must not execute it twice
        try:
            answer.update(result=execute(message["type"], message["payload"]), status="SUCCEEDED", error=None)
        except Exception as error:
            answer["error"] = str(error)
        self.save()
        return [answer, status()] if answer["status"] == "SUCCEEDED" else [answer]

    def configure(self, message):
        version, config = message["version"], message["config"]
        errors = {key: fault(key, config[key]) for key in config if fault(key, config[key])}
        if not errors and config != self.state["config"]:
            self.state["config"] = config
            self.save()
            self.due["reading"] = self.uptime
        answer = {"configVersion": version, "status": "REJECTED" if errors else "APPLIED", "errors": errors or None}
        print("configuration", json.dumps(answer))
        return answer

    def measure(self):
        self.readings.append({"sensors": read_sensors(), "metadata": {"uptime": self.uptime}})
        if len(self.readings) > OUTBOX:  # the oldest goes, but for one that is on its way
            self.readings.pop(1 if self.sending else 0)

    def send(self):  # one message at a time, answers first; it leaves the outbox when the broker acknowledges it
        queue = self.answers or self.readings
        self.sending = message = queue[0]
        kind = "telemetry" if "sensors" in message else "status" if "online" in message else "ack"
        if kind == "telemetry" and "timestamp" not in message:  # a message is the same at each attempt
            uptime = message["metadata"]["uptime"]
            message["timestamp"] = str(uptime) if self.booted_at is None else self.booted_at + uptime

        def acknowledged(*_):
            queue.remove(message)
            self.sending = None
            print("delivered", json.dumps(message))

        self.client.publish(self.topic + kind, json.dumps(message), qos=1, on_publish=acknowledged)

    def step(self):
        now = ticks_ms()
        self.uptime, self.last_tick = self.uptime + ticks_diff(now, self.last_tick), now
        if self.is_due("time", 10):
            self.ask_time()
        if self.is_due("reading", self.state["config"].get("sampleRate", 30)):
            self.measure()
        if self.client is None:
            if self.is_due("connection", 2 ** self.attempts * (0.5 + random.random() / 2)):
                self.attempts = min(5, self.attempts + 1)  # up to half a minute between attempts
                self.connect()
            return
        self.client.handle(now)
        if self.client.state == "failed":
            print("not connected:", self.client.last_error)
            self.client.disconnect()
            self.client = self.sending = None
        elif self.client.state == "connected" and not self.sending and (self.answers or self.readings):
            self.send()


with open("settings.json") as file:
    settings = json.load(file)
if network:
    wifi = network.WLAN(network.STA_IF)
    wifi.active(True)
    wifi.connect(*settings["wifi"])  # the driver joins again by itself
device = Device(settings)
while True:
    device.step()
    time.sleep(0.01)
