"""Many clients of paho-mqtt in one process, on one selector: `mqtt_broker.py` runs this with a Python that has it.

    python paho_clients.py HOST PORT COUNT

Each client is in a room of ten, publishes to it at QoS 1, and receives everything published there.  Exits with 0 once every
message has reached every member exactly once, unchanged, and in the order in which its sender published.
"""

import random
import selectors
import sys
import time

import paho.mqtt.client as mqtt

ROOM = 10
MESSAGES = 5  # For each client.
LIMIT_S = 40

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(17)


def members(number):
    """Returns all clients in the same room."""
    first = number - number % ROOM
    return range(first, min(first + ROOM, count))


class Member:
    def __init__(self, number):
        self.topic = f"rooms/{number // ROOM}/{number}"
        self.sent = [chance.randbytes(chance.choice([0, 1, 20, 300, 5000])) for _ in range(MESSAGES)]
        self.heard = {}
        self.is_subscribed = False
        self.acknowledged = 0
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"member-{number}", protocol=mqtt.MQTTv311)
        self.client.on_connect = lambda client, *_: client.subscribe(f"rooms/{number // ROOM}/+", 1)
        self.client.on_subscribe = self.subscribed
        self.client.on_publish = self.published
        self.client.on_message = lambda _, __, message: self.heard.setdefault(message.topic, []).append(message)
        self.client.on_disconnect = lambda *reason: sys.exit(f"member {number} was disconnected: {reason[2:4]}")
        self.client.connect(host, port)

    def subscribed(self, _client, _data, _id, codes, _properties):
        assert [code.value for code in codes] == [1], codes
        self.is_subscribed = True

    def published(self, *_):
        self.acknowledged += 1

    def is_done(self, number):
        of = {everybody[other].topic: everybody[other].sent for other in members(number)}
        heard = {topic: [message.payload for message in messages] for topic, messages in self.heard.items()}
        return heard == of and self.acknowledged == MESSAGES


def turn(selector):
    for key, _ in selector.select(0.05):
        key.data.loop_read(64)
    for member in everybody:
        if member.client.want_write():
            member.client.loop_write()
        assert not member.client.loop_misc()


def run_until(selector, done, what):
    deadline = time.monotonic() + LIMIT_S
    while not done():
        if time.monotonic() > deadline:
            sys.exit(f"after {LIMIT_S} s not yet: {what}")
        turn(selector)


everybody = [Member(number) for number in range(count)]
with selectors.DefaultSelector() as all_of_them:
    for one in everybody:
        all_of_them.register(one.client.socket(), selectors.EVENT_READ, one.client)
    run_until(all_of_them, lambda: all(one.is_subscribed for one in everybody), "all are subscribed")
    for place in range(MESSAGES):
        for one in everybody:
            one.client.publish(one.topic, one.sent[place], qos=1)
        turn(all_of_them)
    awaited = count * ROOM * MESSAGES
    run_until(all_of_them, lambda: sum(len(m) for one in everybody for m in one.heard.values()) >= awaited, "all has come")
    run_until(all_of_them, lambda: all(one.acknowledged == MESSAGES for one in everybody), "all is acknowledged")
    turn(all_of_them)  # Duplicates would arrive now.
wrong = [number for number, one in enumerate(everybody) if not one.is_done(number)]
if wrong:
    sys.exit(f"{len(wrong)} of {count} have heard something else than was said, {wrong[0]} among them")
assert all(m.qos == 1 and not m.retain and not m.dup for one in everybody for ms in one.heard.values() for m in ms)
print(awaited)
