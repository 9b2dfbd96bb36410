#!/usr/bin/env python3
"""Checks a proof of what a key of a Tallystick ledger's state is, or that it is not there. Written from docs/formats/state.md, with
nothing of ours and nothing but cbor2 and cryptography.

    state_check.py KEY_HEX ANSWER LEDGER_KEY_PEM
    state_check.py --vectors docs/formats/state-vectors.csv

ANSWER is what `GET /state/{key}` gave (`tally ledger state -o ANSWER`). Says `present VALUE_HEX` or `absent`, at which height. Exit code
0: proved, 1: the proof does not hold. With --vectors every place, group, root and proof of the table is derived anew.
"""

import csv
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


# What leaves and inner nodes begin with in a tree of each scheme.
SCHEMES = {1: (b"\x00", b"\x01"), 2: (b"\x02", b"\x03")}


def group_of(key):
    """docs/formats/state.md, *Groups*: what keys of scheme 2 have in common that stand side by side, or None."""
    kind, rest, number = key[:1], key[1:], None
    if kind == b"a" and rest.startswith(b"escrow:"):
        prefix, _, digits = rest[7:].rpartition(b"-")
        if digits.isdigit() and digits[:1] != b"0" and len(digits) <= 20 and b"\0" not in prefix:
            number, behind = int(digits), b""
    elif kind in (b"m", b"h", b"S", b"t"):
        prefix, _, numbers = rest[8 if kind == b"t" else 0 :].partition(b"\0")
        if len(numbers) >= 8:
            number, behind = int.from_bytes(numbers[:8], "big"), numbers[8:]
    if number is None or number >= 1 << 64 or not prefix:
        return None
    fits = len(behind) == 8 and int.from_bytes(behind, "big") < 8 if kind == b"h" else behind == b""
    return prefix + b"\0" + (number >> 4).to_bytes(8, "big") if fits else None


def place_of(scheme, key):
    own, group = sha256(key), group_of(key)
    if scheme == 1:
        return own
    if group is None:
        return bytes([own[0] & 0x7F]) + own[1:]
    near = sha256(group)
    return bytes([near[0] | 0x80]) + near[1:8] + own[:24]


def root_of_way(scheme, leaf, steps):
    of_leaf, of_node = SCHEMES[scheme]
    node = sha256(of_leaf, *leaf)
    for at, sibling in reversed(steps):
        sides = (sibling, node) if bit(leaf[0], at) else (node, sibling)
        node = sha256(of_node, bytes([at]), *sides)
    return node


def check(key, value, proof, root):
    """docs/formats/state.md, *Checking a proof*, 2 to 6. `value` is None when the answer says that the key is absent."""
    need(set(proof) <= {"steps", "leaf"} and "steps" in proof, "the proof has other fields")
    steps = proof["steps"]
    bits = [step[0] for step in steps]
    need(bits == sorted(set(bits)), "the bits on the way do not rise")
    if "leaf" not in proof:
        need(not steps and root == bytes(32) and value is None, "the state is not empty")
        return
    found, value_hash = proof["leaf"]
    scheme = next((scheme for scheme in SCHEMES if root_of_way(scheme, (found, value_hash), steps) == root), None)
    need(scheme is not None, "the way does not lead to the state of the checkpoint")
    k = place_of(scheme, key)
    need(all(bit(found, at) == bit(k, at) for at in bits), "the way does not lead to the key")
    if value is None:
        need(found != k, "the key is there, though the answer says that it is not")
    else:
        need(found == k and value_hash == sha256(value), "the state has another value")


def root_of_all(scheme, leaves):
    """Of sorted leaves: those with a 0 in the first bit that is not the same in all are left."""
    if len(leaves) == 1:
        return sha256(SCHEMES[scheme][0], *leaves[0])
    at = next(at for at in range(256) if bit(leaves[0][0], at) != bit(leaves[-1][0], at))
    left, right = ([leaf for leaf in leaves if bit(leaf[0], at) == side] for side in (0, 1))
    return sha256(SCHEMES[scheme][1], bytes([at]), root_of_all(scheme, left), root_of_all(scheme, right))


def check_vectors(file):
    with open(file, newline="") as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    roots = {int(row["scheme"]): bytes.fromhex(row["root"]) for row in rows}
    need(set(roots) == set(SCHEMES), "a scheme is missing")
    for number, row in enumerate(rows, 1):
        scheme, key = int(row["scheme"]), bytes.fromhex(row["key"])
        value = None if row["value"] == "-" else bytes.fromhex(row["value"])
        place, proof = place_of(scheme, key), strict(bytes.fromhex(row["proof"]), "proof")
        need((group_of(key) or b"").hex() == row["group"] and place.hex() == row["place"], f"row {number}: its place is another")
        check(key, value, proof, roots[scheme])
        try:
            check(key, value, proof, roots[3 - scheme])
        except Fault:
            continue
        raise Fault(f"row {number}: it holds in the tree of the other scheme, too")
    for scheme, root in roots.items():
        there = [row for row in rows if int(row["scheme"]) == scheme and row["value"] != "-"]
        leaves = sorted((bytes.fromhex(row["place"]), sha256(bytes.fromhex(row["value"]))) for row in there)
        need(root_of_all(scheme, leaves) == root, f"scheme {scheme}: its keys give another root")
    print(f"checked {len(rows)}")


def main():
    if sys.argv[1] == "--vectors":
        try:
            check_vectors(sys.argv[2])
        except (Fault, KeyError, ValueError) as fault:
            print(f"does not hold: {fault}")
            return 1
        return 0
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
