#!/usr/bin/env python3
"""Checks a cosigned checkpoint with nothing of ours.

    witnessed_check.py NOTE LEDGER LEDGER_KEY.pem NAME=KEY.pem...     answers JSON: size, root, and when each witness signed (null: not)
"""

import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from witness_notes import cosigned_at, open_note

NOTE, LOG, LOG_KEY, *WITNESSES = sys.argv[1:]
note = Path(NOTE).read_text()
size, root = open_note(note, LOG, load_pem_public_key(Path(LOG_KEY).read_bytes()))
signed = {}
for witness in WITNESSES:
    name, file = witness.split("=", 1)
    signed[name] = cosigned_at(note, name, load_pem_public_key(Path(file).read_bytes()))
print(json.dumps({"size": size, "root": root.hex(), "signed": signed}))
