#!/usr/bin/env python3
"""Decodes a recorded Sparkplug session with pysparkplug, a library that is not ours, as a host does: births teach it names
and data types, data is decoded with them.

    sparkplug_decode.py < lines of "TOPIC<tab>HEX"

Prints one JSON array, an object for each message: topic, seq, and metrics with name, value, historical, quality (always null:
pysparkplug reads no properties).
"""

import json
import sys

import pysparkplug as psp

births = {}
messages = []
for line in sys.stdin:
    topic, payload = line.rstrip("\n").split("\t")
    raw = bytes.fromhex(payload)
    parts = topic.split("/")
    kind, device = parts[2], parts[4] if len(parts) > 4 else None
    match kind:
        case "NBIRTH" | "DBIRTH":
            message = (psp.NBirth if kind == "NBIRTH" else psp.DBirth).decode(raw)
            births[device] = message
            metrics = message.metrics
        case "NDATA" | "DDATA":
            message = (psp.NData if kind == "NDATA" else psp.DData).decode(raw, birth=births[device])
            metrics = message.metrics
        case "NDEATH":
            message = psp.NDeath.decode(raw)
            metrics = [message.bd_seq_metric]
        case "DDEATH":
            message = psp.DDeath.decode(raw)
            metrics = []
    messages.append({
        "topic": topic,
        "seq": getattr(message, "seq", None),
        "metrics": [
            {"name": m.name, "value": None if m.is_null else m.value, "historical": m.is_historical, "quality": None}
            for m in metrics
        ],
    })
print(json.dumps(messages))
