#!/usr/bin/env python3
"""Checks a signed statement and its receipt with scitt-cose, a library that is not ours, and then every forgery of them
that differs in one bit.

    scitt_check.py STATEMENT RECEIPT SIGNER.pem LEDGER.pem STATEMENT_ID_HEX

Prints one JSON object:
    statement, receipt   whether the true ones verify
    issuer, subject      what scitt-cose reads from the verified statement
    root                 the tree root that the verified receipt proves
    statement_bits, receipt_bits, id_bits      how many forgeries were tried
    statement_taken, receipt_taken, id_taken   the forgeries that verified: [byte, bit] each; for receipts with the
                                               tree size and leaf index that they claim
    keys_swapped         whether either verifies under the other's key
"""

import json
import sys
from pathlib import Path

import scitt_cose


def flipped(data):
    """Every copy of data that differs in one bit, with its place."""
    for place in range(len(data)):
        for bit in range(8):
            forged = bytearray(data)
            forged[place] ^= 1 << bit
            yield place, bit, bytes(forged)


def statement_holds(statement, key):
    return scitt_cose.parse_signed_statement(statement, public_key_pem=key)["signature_verified"] is True


def main():
    statement, receipt, signer, ledger = (Path(name).read_bytes() for name in sys.argv[1:5])
    leaf = sys.argv[5]

    def check(receipt, leaf, key=ledger):
        return scitt_cose.verify_receipt(receipt, leaf_entry_hex=leaf, log_public_key_pem=key)

    parsed = scitt_cose.parse_signed_statement(statement, public_key_pem=signer)
    proved = check(receipt, leaf)
    answer = {
        "statement": parsed["signature_verified"] is True,
        "issuer": parsed["issuer"],
        "subject": parsed["subject"],
        "receipt": proved.ok,
        "errors": [str(error) for error in proved.errors],
        "root": proved.root,
        "tree_size": proved.tree_size,
        "leaf_index": proved.leaf_index,
        "statement_bits": len(statement) * 8,
        "receipt_bits": len(receipt) * 8,
        "id_bits": len(leaf) * 4,
        "statement_taken": [[p, b] for p, b, forged in flipped(statement) if statement_holds(forged, signer)],
        "receipt_taken": [
            [p, b, result.tree_size, result.leaf_index]
            for p, b, forged in flipped(receipt)
            if (result := check(forged, leaf)).ok
        ],
        "id_taken": [[p, b] for p, b, forged in flipped(bytes.fromhex(leaf)) if check(receipt, forged.hex()).ok],
        "keys_swapped": statement_holds(statement, ledger) or check(receipt, leaf, signer).ok,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
