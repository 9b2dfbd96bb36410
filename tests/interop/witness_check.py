#!/usr/bin/env python3
"""A log of others (Ed25519, written from C2SP tlog-witness) asks a witness for cosignatures, rightly and wrongly.

    witness_check.py BASE_URL LOG LOG_KEY.pem(private) NAME WITNESS_KEY.pem     answers JSON; exit code 0 when it answers as specified
"""

import base64
import hashlib
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from witness_notes import DASH, cosigned_at, log_id, node, sha256

BASE, LOG, KEY, NAME, WITNESS = sys.argv[1:]
KEY, WITNESS = load_pem_private_key(Path(KEY).read_bytes(), None), load_pem_public_key(Path(WITNESS).read_bytes())


def leaves(entries):
    return [sha256(b"\x00" + entry.encode()) for entry in entries]


def root(hashes):
    if not hashes:
        return sha256(b"")
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node(root(hashes[:split]), root(hashes[split:]))


def proof(old, hashes, whole=True):
    """RFC 6962, 2.1.2."""
    if old == len(hashes):
        return [] if whole else [root(hashes)]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if old <= split:
        return proof(old, hashes[:split], whole) + [root(hashes[split:])]
    return proof(old - split, hashes[split:], False) + [root(hashes[:split])]


def note(hashes, size, origin=LOG, key=KEY):
    text = f"{origin}\n{size}\n{base64.b64encode(root(hashes[:size])).decode()}\n"
    blob = log_id(origin, key.public_key()) + key.sign(text.encode())
    return f"{text}\n{DASH} {origin} {base64.b64encode(blob).decode()}\n"


def post(body):
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{BASE}/add-checkpoint", body.encode(), method="POST")) as got:
            return got.status, got.headers["content-type"], got.read().decode()
    except urllib.error.HTTPError as got:
        return got.code, got.headers["content-type"], got.read().decode()


def ask(old, hashes, size, path=None):
    path = path if path is not None else (proof(old, hashes[:size]) if 0 < old < size else [])
    lines = "".join(base64.b64encode(step).decode() + "\n" for step in path)
    return post(f"old {old}\n{lines}\n{note(hashes, size)}")


def is_signed(answer, hashes, size):
    status, _, lines = answer
    assert status == 200, answer
    when = cosigned_at(note(hashes, size) + lines, NAME, WITNESS)
    assert abs(when - time.time()) < 600, when


honest = leaves(f"entry {number}" for number in range(300))
forked = honest[:70] + leaves(["another"]) + honest[71:]
assert ask(0, honest, 5, [bytes(32)])[0] == 422, "a path from nothing"
is_signed(ask(0, honest, 0), honest, 0)
size = 0
for step in (1, 2, 3, 7, 8, 64, 65, 65, 129, 200):
    is_signed(ask(size, honest, step), honest, step)
    size = step
status, kind, text = ask(0, honest, 210)
assert (status, kind, text) == (409, "text/x.tlog.size", "200\n"), "an unknown old size"
assert ask(129, honest, 200)[0] == 409, "an old request, sent again"
assert ask(210, honest, 205)[0] == 400, "old above the size"
assert ask(200, honest, 210, [bytes(32)] * 3)[0] == 422, "a path that does not hold"
assert post("old 200\n\n" + note(honest, 210).replace("\n210\n", "\n211\n"))[0] == 403, "another text than signed"
assert post("old 200\n\n" + note(honest, 210, origin="elsewhere"))[0] == 404, "an unknown log"
for wrong in ("", "old x\n\n", f"old 200\n{note(honest, 210)}", "old 200\n" + "AAAA\n" * 64 + "\n" + note(honest, 210)):
    assert post(wrong)[0] == 400, wrong
assert post("old 0\n\n" + "x" * 200_000)[0] in (400, 413), "too long"
is_signed(ask(200, honest, 300), honest, 300)
with urllib.request.urlopen(f"{BASE}/{hashlib.sha256(LOG.encode()).hexdigest()}/checkpoint") as got:
    shown = got.read().decode()
assert shown.startswith(note(honest, 300)) and cosigned_at(shown, NAME, WITNESS), "what it cosigned last is shown"
assert ask(300, forked, 300)[0] == 422, "a second history"
assert ask(300, honest, 300)[0] == 409, "nothing more of a log with two histories"
print(json.dumps({"size": 300, "signed": True}))
