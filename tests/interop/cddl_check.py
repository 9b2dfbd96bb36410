#!/usr/bin/env python3
"""Holds CBOR against our CDDL with a validator that is not ours (pycddl, the crate `cddl` underneath).

    cddl_check.py TYPE FILE.cddl... < one hexadecimal document a line

Prints `yes`, or `no` and the reason, for each line.
"""

import sys
from pathlib import Path

import pycddl

# The first rule of a CDDL text is what is checked (RFC 8610 §2.2.4).
top, files = sys.argv[1], sys.argv[2:]
text = f"checked = {top}\n" + "\n".join(Path(file).read_text(encoding="utf-8") for file in files)
schema = pycddl.Schema(text)
for line in sys.stdin:
    try:
        schema.validate_cbor(bytes.fromhex(line))
        print("yes")
    except pycddl.ValidationError as fault:
        print("no", " ".join(str(fault).split()))
