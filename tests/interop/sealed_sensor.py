#!/usr/bin/env python3
"""A sensor with a key of its own, with libraries that are not ours (cryptography, cbor2, paho-mqtt).

    sealed_sensor.py PORT TOPIC DEVICE KEY_FILE cose|jws|flat

Reads its key (PKCS#8 PEM, P-256). Commands on standard input, each answered with `ok`:

    send VALUE       seals {"device", "seq", "timestamp", "temp": VALUE} and publishes it
    again            the message before, byte for byte
    old VALUE        sealed, numbered on, but an hour old
    replay N         message N, as it was sent
    as DEVICE VALUE  sealed in the name of another device
    spoil VALUE      sealed, then one bit of the signature turned
    bare VALUE       not sealed at all
    other VALUE      sealed with another key
"""

import base64
import json
import sys
import time

import cbor2
import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

port, topic, device, key_file, form = int(sys.argv[1]), *sys.argv[2:6]
own = load_pem_private_key(open(key_file, "rb").read(), None)
client = mqtt.Client(client_id="sensor")
client.connect("127.0.0.1", port)
client.loop_start()
sent, seq = [], 0


def sign(key, data):
    r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def seal(payload, key):
    if form == "cose":
        protected, inside = cbor2.dumps({1: -7}), cbor2.dumps(payload)
        signature = sign(key, cbor2.dumps(["Signature1", protected, b"", inside]))
        return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, inside, signature]))
    protected, inside = b64(b'{"alg":"ES256"}'), b64(json.dumps(payload).encode())
    signature = b64(sign(key, f"{protected}.{inside}".encode()))
    if form == "jws":
        return f"{protected}.{inside}.{signature}".encode()
    return json.dumps({"protected": protected, "payload": inside, "signature": signature}).encode()


def message(value, age=0, name=device, key=own):
    global seq
    seq += 1
    at = int(time.time() * 1000) - age * 1000
    return seal({"device": name, "seq": seq, "timestamp": at, "temp": float(value)}, key)


def publish(data):
    sent.append(data)
    client.publish(topic, data, qos=1).wait_for_publish(5)


for line in sys.stdin:
    word, *rest = line.split()
    match word:
        case "send":
            publish(message(rest[0]))
        case "again":
            publish(sent[-1])
        case "old":
            publish(message(rest[0], age=3600))
        case "replay":
            publish(sent[int(rest[0])])
        case "as":
            publish(message(rest[1], name=rest[0]))
        case "spoil":
            data = message(rest[0])
            # Inside the signature: of COSE its last byte, of JWS the tenth from the end.
            place = len(data) - (1 if form == "cose" else 10)
            publish(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        case "bare":
            publish(json.dumps({"temp": float(rest[0])}).encode())
        case "other":
            publish(message(rest[0], key=ec.generate_private_key(ec.SECP256R1())))
    print("ok", flush=True)
