#!/usr/bin/env python3
"""Checks a split file (docs/formats/witness.md) with nothing of ours: did one log sign two histories?

    split_check.py FILE LEDGER_KEY.pem     exit code 1: it did (as `tally witness compare`), 0: not proved, 2: no split file of this log
"""

import json
import sys
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from witness_notes import NoteFault, open_note, roots, spki


def judge(file, key):
    if file["tallystick-split"] != 1 or file["key"] != spki(key):
        raise NoteFault("not a split file of this log's key")
    (first, old), (second, new) = [open_note(note, file["origin"], key) for note in file["notes"]]
    if first == second:
        return "two roots of one size" if old != new else None
    reached = roots(first, second, old, file["path"]) if "path" in file else None
    if reached and reached[1] == new and reached[0] != old:
        return "the larger tree does not begin with the smaller"
    return None


try:
    proved = judge(cbor2.loads(Path(sys.argv[1]).read_bytes()), load_pem_public_key(Path(sys.argv[2]).read_bytes()))
except (NoteFault, ValueError, KeyError, OSError) as fault:
    print(fault, file=sys.stderr)
    sys.exit(2)
print(json.dumps({"two_histories": proved is not None, "why": proved}))
sys.exit(1 if proved else 0)
