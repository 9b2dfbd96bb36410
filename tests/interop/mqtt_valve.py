#!/usr/bin/env python3
"""Two valves on MQTT with libraries that are not ours (paho-mqtt, pysparkplug).

    mqtt_valve.py PORT

`valve-01` takes `{"position": NUMBER}` on valve/set and says what it holds on valve/state, retained, as JSON. `valve-02` is a device of
the Sparkplug edge node works-1/edge-9, whose metric `Position` (a double, by its alias after the birth) takes a DCMD.

Lines on standard input, each answered with `ok`: `stick` has both keep their positions whatever comes, `free` the opposite;
`taken` answers `ok NUMBER`, the commands that came to both.
"""

import json
import sys
import time

import paho.mqtt.client as mqtt
import pysparkplug as psp

GROUP, NODE, DEVICE = "works-1", "edge-9", "valve-02"
position, metric, stuck, taken, seq = 10.0, 20.0, False, 0, 0


def now():
    return int(time.time() * 1000)


def topic(kind, device=None):
    return f"spBv1.0/{GROUP}/{kind}/{NODE}" + (f"/{device}" if device else "")


def numbered():
    global seq
    seq = (seq + 1) % 256
    return seq - 1


def of_position(**more):
    return psp.Metric(timestamp=now(), datatype=psp.DataType.DOUBLE, value=metric, alias=7, **more)


def births():
    global seq
    seq = 0
    number = psp.Metric(timestamp=now(), name="bdSeq", datatype=psp.DataType.INT64, value=0)
    birth = psp.NBirth(timestamp=now(), seq=numbered(), metrics=(number,))
    client.publish(topic("NBIRTH"), birth.encode(include_dtypes=True), qos=0)
    birth = psp.DBirth(timestamp=now(), seq=numbered(), metrics=(of_position(name="Position"),))
    client.publish(topic("DBIRTH", DEVICE), birth.encode(include_dtypes=True), qos=0)


def say():
    client.publish("valve/state", json.dumps({"position": position}), qos=1, retain=True)


def on_message(_client, _data, message):
    global position, metric, taken
    if message.topic == topic("NCMD"):
        return births()
    taken += 1
    if message.topic == "valve/set":
        wanted = float(json.loads(message.payload)["position"])
        position = position if stuck else wanted
        return say()
    (wanted,) = psp.DCmd.decode(message.payload).metrics
    assert wanted.name == "Position", wanted
    metric = metric if stuck else wanted.value
    data = psp.DData(timestamp=now(), seq=numbered(), metrics=(of_position(name=None),))
    client.publish(topic("DDATA", DEVICE), data.encode(), qos=0)


client = mqtt.Client(client_id="valve")
client.on_message = on_message
client.connect("127.0.0.1", int(sys.argv[1]))
client.subscribe([("valve/set", 1), (topic("NCMD"), 1), (topic("DCMD", DEVICE), 1)])
client.loop_start()
say()
births()
print("ready", flush=True)
for line in sys.stdin:
    word = line.strip()
    stuck = word == "stick" or (stuck and word != "free")
    print(f"ok {taken}" if word == "taken" else "ok", flush=True)
