"""A mirror of a tiled log (C2SP tlog-tiles) that knows nothing of Tallystick: fetches the checkpoint, all tiles and all entries
over HTTP, recomputes the root, checks the signature, and checks consistency proofs with PyPI `scitt-cose`.

usage: tlog_check.py BASE_URL KEY.pem ORIGIN OLD_SIZE...    answers JSON; exit code 0 when everything holds
"""

import base64
import hashlib
import json
import sys
import urllib.request

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from scitt_cose import verify_consistency

BASE, KEY_FILE, ORIGIN, *OLD = sys.argv[1:]
KEY = serialization.load_pem_public_key(open(KEY_FILE, "rb").read())


def get(path):
    with urllib.request.urlopen(f"{BASE}/{path}") as answer:
        return answer.read()


def checkpoint():
    """Size and root, when the log's signature (type 0x02) over them holds."""
    note = get("tlog/checkpoint").decode()
    text, signatures = note.rsplit("\n\n", 1)
    text += "\n"
    spki = KEY.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    key_id = hashlib.sha256(spki).digest()[:4]
    for line in signatures.splitlines():
        dash, name, blob = line.split(" ")
        blob = base64.b64decode(blob, validate=True)
        if (dash, name, blob[:4]) == ("\u2014", ORIGIN, key_id):
            KEY.verify(blob[4:], text.encode(), ec.ECDSA(hashes.SHA256()))
            origin, size, root = text.splitlines()[:3]
            assert origin == ORIGIN
            return int(size), base64.b64decode(root)
    raise ValueError("no signature of the log")


def tile_path(kind, index, width):
    """C2SP: three digits a part, all but the last behind an x."""
    digits = f"{index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    parts = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    path = "/".join([f"x{part}" for part in parts[:-1]] + parts[-1:])
    return f"tlog/tile/{kind}/{path}" + ("" if width == 256 else f".p/{width}")


def tiles(kind, count):
    """All tiles of a level with so many hashes."""
    for index in range(-(-count // 256)):
        yield get(tile_path(kind, index, min(256, count - index * 256)))


def level(number, count):
    joined = b"".join(tiles(number, count))
    return [joined[i : i + 32] for i in range(0, len(joined), 32)]


def entries(count):
    for bundle in tiles("entries", count):
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            yield bundle[2 : 2 + length]
            bundle = bundle[2 + length :]


def root_of(leaves):
    """RFC 6962 section 2.1."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


size, root = checkpoint()
leaves = level(0, size)
assert len(leaves) == size and root_of(leaves) == root, "tiles lead to the signed root"
assert [hashlib.sha256(b"\x00" + entry).digest() for entry in entries(size)] == leaves, "entries are the leaves"
above = level(1, size // 256)
assert above == [root_of(leaves[i * 256 : (i + 1) * 256]) for i in range(size // 256)], "a tile is the roots of those below"

checked = []
for old in map(int, OLD):
    receipt = cbor2.loads(get(f"consistency/{old}?size={size}"))
    protected, unprotected, payload, signature = receipt.value
    first, second, path = cbor2.loads(unprotected[396][-2][0])
    assert (first, second, payload) == (old, size, None)
    path = [step.hex() for step in path]
    assert verify_consistency(root_of(leaves[:old]).hex(), root.hex(), old, size, path), f"consistency from {old}"
    assert old == size or not verify_consistency("00" * 32, root.hex(), old, size, path), "another beginning is refused"
    signed = cbor2.dumps(["Signature1", protected, b"", root], canonical=True)
    der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    KEY.verify(der, signed, ec.ECDSA(hashes.SHA256()))
    try:
        KEY.verify(der, signed + b"\x00", ec.ECDSA(hashes.SHA256()))
        raise AssertionError("a signature over other bytes was taken")
    except InvalidSignature:
        checked.append(old)

print(json.dumps({"size": size, "root": root.hex(), "consistent_from": checked}))
