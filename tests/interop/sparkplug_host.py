#!/usr/bin/env python3
"""A Sparkplug host with libraries that are not ours (paho-mqtt, pysparkplug): waits for the birth of a device, then has metrics
written as it is told on its standard input, one line each:

    write NAME VALUE      a DCMD by the name of the birth
    alias NAME VALUE      a DCMD by the alias of the birth
    old NAME VALUE        a DCMD that says it was sent an hour ago
    again                 the last message once more, byte for byte
    node NAME VALUE       an NCMD
    rebirth               an NCMD that asks for births

    sparkplug_host.py PORT GROUP EDGE_NODE DEVICE

Says `born` when it heard the birth, and `ok` behind each line.
"""

import sys
import threading
import time

import paho.mqtt.client as mqtt
import pysparkplug as psp

port, group, node, device = int(sys.argv[1]), *sys.argv[2:5]
births, born = [], threading.Event()


def on_message(_client, _data, message):
    if message.topic.split("/")[2] == "DBIRTH":
        births.append(psp.DBirth.decode(message.payload))
        born.set()


client = mqtt.Client(client_id="host")
client.on_message = on_message
client.connect("127.0.0.1", port)
client.subscribe(f"spBv1.0/{group}/DBIRTH/{node}/{device}", qos=1)
client.loop_start()


def publish(kind, payload):
    where = f"spBv1.0/{group}/{kind}/{node}" + ("" if kind == "NCMD" else f"/{device}")
    client.publish(where, payload, qos=0, retain=False).wait_for_publish(5)
    return kind, payload


def metric(name, value, by_alias=False):
    known = {m.name: m for m in births[-1].metrics}.get(name)
    datatype = known.datatype if known else psp.DataType.DOUBLE
    value = float(value) if datatype in (psp.DataType.DOUBLE, psp.DataType.FLOAT) else int(value)
    alias = known.alias if by_alias else None
    return psp.Metric(timestamp=now(), name=None if by_alias else name, datatype=datatype, value=value, alias=alias)


def now():
    return int(time.time() * 1000)


if not born.is_set():
    # The birth may have been before us.
    rebirth = psp.Metric(timestamp=now(), name="Node Control/Rebirth", datatype=psp.DataType.BOOLEAN, value=True)
    while not born.wait(1):
        publish("NCMD", psp.NCmd(timestamp=now(), metrics=(rebirth,)).encode(include_dtypes=True))
print("born", flush=True)
last = None
for line in sys.stdin:
    words = line.split()
    if words[0] in ("write", "alias", "old"):
        sent = now() - (3_600_000 if words[0] == "old" else 0)
        command = psp.DCmd(timestamp=sent, metrics=(metric(words[1], words[2], words[0] == "alias"),))
        last = publish("DCMD", command.encode(include_dtypes=True))
    elif words[0] == "again":
        publish(*last)
    elif words[0] == "node":
        publish("NCMD", psp.NCmd(timestamp=now(), metrics=(metric(words[1], words[2]),)).encode(include_dtypes=True))
    elif words[0] == "rebirth":
        publish("NCMD", psp.NCmd(timestamp=now(), metrics=(rebirth,)).encode(include_dtypes=True))
    print("ok", flush=True)
