#!/usr/bin/env python3
"""Checks a proof of what a key of a Tallystick ledger's state is, or that it is not there. Written from docs/formats/state.md, with
nothing of ours and nothing but cbor2 and cryptography.

    state_check.py KEY_HEX ANSWER LEDGER_KEY_PEM

ANSWER is what `GET /state/{key}` gave (`tally ledger state -o ANSWER`). Says `present VALUE_HEX` or `absent`, at which height. Exit code
0: proved, 1: the proof does not hold.
"""

import hashlib
import sys
from pathlib import Path

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key


class Fault(Exception):
    pass


def need(holds, why):
    if not holds:
        raise Fault(why)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def strict(data, what):
    """Deterministic CBOR: written again it is the same bytes."""
    try:
        value = cbor2.loads(data)
        need(cbor2.dumps(value, canonical=True) == data, f"{what} is not deterministic CBOR")
    except (cbor2.CBORError, ValueError, TypeError) as fault:
        raise Fault(f"{what}: {fault}") from fault
    return value


def thumbprint(key):
    """RFC 9679 §3."""
    point = key.public_numbers()
    x, y = (number.to_bytes(32, "big") for number in (point.x, point.y))
    return sha256(cbor2.dumps({1: 2, -1: 1, -2: x, -3: y}, canonical=True))


def open_checkpoint(data, key):
    tagged = strict(data, "checkpoint")
    need(isinstance(tagged, cbor2.CBORTag) and tagged.tag == 18 and len(tagged.value) == 4, "the checkpoint is no COSE_Sign1")
    protected, unprotected, payload, signature = tagged.value
    header = strict(protected, "checkpoint header")
    expected = {1: -7, 3: "application/vnd.tallystick.checkpoint+cbor", 4: thumbprint(key)}
    need(header == expected and not unprotected, "the checkpoint is not of this ledger's key")
    need(len(signature) == 64, "an ES256 signature has 64 bytes")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    need(s <= order // 2, "the signature is not in its low form")
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    try:
        key.verify(encode_dss_signature(r, s), signed, ECDSA(SHA256()))
    except (InvalidSignature, ValueError) as fault:
        raise Fault("the ledger's seal under the checkpoint does not hold") from fault
    return strict(payload, "checkpoint")


def bit(key, number):
    return key[number // 8] >> (7 - number % 8) & 1


def check(key, value, proof, root):
    """docs/formats/state.md, *Checking a proof*, 2 to 6. `value` is None when the answer says that the key is absent."""
    need(set(proof) <= {"steps", "leaf"} and "steps" in proof, "the proof has other fields")
    steps, k = proof["steps"], sha256(key)
    bits = [step[0] for step in steps]
    need(bits == sorted(set(bits)), "the bits on the way do not rise")
    if "leaf" not in proof:
        need(not steps and root == bytes(32) and value is None, "the state is not empty")
        return
    found, value_hash = proof["leaf"]
    need(all(bit(found, at) == bit(k, at) for at in bits), "the way does not lead to the key")
    node = sha256(b"\x00", found, value_hash)
    for at, sibling in reversed(steps):
        sides = (sibling, node) if bit(k, at) else (node, sibling)
        node = sha256(b"\x01", bytes([at]), *sides)
    need(node == root, "the way does not lead to the state of the checkpoint")
    if value is None:
        need(found != k, "the key is there, though the answer says that it is not")
    else:
        need(found == k and value_hash == sha256(value), "the state has another value")


def main():
    key, answer = bytes.fromhex(sys.argv[1]), Path(sys.argv[2]).read_bytes()
    ledger_key = load_pem_public_key(Path(sys.argv[3]).read_bytes())
    try:
        answer = strict(answer, "answer")
        need(set(answer) <= {"value", "proof", "checkpoint"}, "the answer has other fields")
        checkpoint = open_checkpoint(answer["checkpoint"], ledger_key)
        check(key, answer.get("value"), strict(answer["proof"], "proof"), checkpoint["state"])
    except (Fault, KeyError, IndexError, ValueError, TypeError) as fault:
        print(f"does not hold: {fault}")
        return 1
    value = answer.get("value")
    print(f"absent at {checkpoint['height']}" if value is None else f"present {value.hex()} at {checkpoint['height']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
