"""What a device sealed itself (docs/formats/sensor-seal.md): COSE_Sign1 or JWS, ES256, with cbor2 and cryptography alone."""

import base64
import binascii
import json
from datetime import datetime

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from .formats import Fault, encode, need, public_key


def b64(part):
    need("=" not in part, "not base64url without padding")
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as fault:
        raise Fault("not base64url without padding") from fault


def jws(message):
    """Signed bytes, header, payload, signature."""
    text = message.decode().strip()
    if text.startswith("{"):
        item = json.loads(text)
        parts = [item["protected"], item["payload"], item["signature"]]
    else:
        parts = text.split(".")
    need(len(parts) == 3, "not the three parts of a JWS")
    return f"{parts[0]}.{parts[1]}".encode(), json.loads(b64(parts[0])), json.loads(b64(parts[1])), b64(parts[2])


def cose(message):
    item = cbor2.loads(message)
    parts = item.value if isinstance(item, cbor2.CBORTag) and item.tag == 18 else item
    need(isinstance(parts, (list, tuple)) and len(parts) == 4, "not the four parts of COSE_Sign1")
    protected, _, payload, signature = parts
    signed = encode(["Signature1", bytes(protected), b"", bytes(payload)])
    return signed, cbor2.loads(protected), cbor2.loads(payload), signature


def opened(message, point):
    """Device, number, time in µs, when the seal holds with the device's key."""
    try:
        is_jws = message[:1] in (b"{", b"e")
        signed, header, payload, signature = jws(message) if is_jws else cose(message)
        alg, crit = ("alg", "crit") if is_jws else (1, 2)
        need(header.get(alg) == ("ES256" if is_jws else -7) and crit not in header, "sealed with another algorithm than ES256")
        need(len(signature) == 64, "a signature has 64 bytes")
        der = utils.encode_dss_signature(*(int.from_bytes(signature[at : at + 32], "big") for at in (0, 32)))
        public_key(point).verify(der, signed, ec.ECDSA(SHA256()))
        device, seq, at = payload["device"], payload["seq"], payload["timestamp"]
        if isinstance(at, str):
            at = datetime.fromisoformat(at.replace("Z", "+00:00"))
            micros = round((at - datetime.fromisoformat("1970-01-01T00:00:00+00:00")).total_seconds() * 1_000_000)
        else:
            micros = at * 1000
        need(type(device) is str and type(seq) is int and type(micros) is int, "device, seq and timestamp are not said")
        return device, seq, micros
    except InvalidSignature as fault:
        raise Fault("the device's seal does not hold with its registered key") from fault
    except (ValueError, KeyError, TypeError, AttributeError, cbor2.CBORError) as fault:
        raise Fault(f"not sealed: {fault}") from fault


def opened_by_any(message, keys):
    """With one of the keys that the device had then."""
    need(keys, "the device had no key then")
    for key in keys[:-1]:
        try:
            return opened(message, key)
        except Fault:
            pass
    return opened(message, keys[-1])


def check(device, keys, readings):
    """`keys`: (key, until when or None); `readings`: (number, point name, received, source time, sealed message or None). How many
    seals hold."""
    latest, holding = {}, 0
    for number, name, received, source, message in readings:
        if message is None:
            continue
        said, seq, micros = opened_by_any(message, [key for key, until in keys if until is None or received <= until])
        need(said == device, f"reading {number}: the device sealed it as {said}")
        need(micros == source, f"reading {number}: another time stands under the seal")
        need(seq > latest.get(name, -1), f"reading {number}: message {seq} comes twice, or late")
        latest[name], holding = seq, holding + 1
    return f"{holding} readings carry the device's own seal"
