#!/usr/bin/env python3
"""Verifies a Tallystick field file, offline: is this what a call sealed as a private field? Written from docs/formats (private.cddl,
verifying.md: *A field file*), with nothing but cbor2 and cryptography.

    field_check.py FILE [--ledger-key PEM] [--json] [--flips OFFSET:MASK,…]

Names each link as `tally verify` does, and behind them what is shown. Exit code 0: every link holds, 1: one does not, 2: no answer.
"""

import base64
import sys
from functools import partial

from verifier.formats import (
    BYTES,
    KEY,
    PROOF,
    SALT,
    TEXT,
    TIMESTAMP,
    any_item,
    decode,
    each,
    fields,
    need,
    one_of,
    row,
    sha256,
)
from verify import Chain, run, verify_as

TYPE = "application/vnd.tallystick.opening+cbor"
FILE = fields({
    "tallystick-field": one_of(1), "ledger": TEXT, "key": KEY, "openings": each(BYTES),
    "entries": each(fields(PROOF | {"statement": BYTES, "receipt": BYTES})),
}, {"timestamp": TIMESTAMP})  # fmt: skip
OPENING = row(SALT, any_item, TEXT)


def commitment(opening):
    """RFC 6920: the name of these bytes by their SHA-256."""
    return f"ni:///sha-256;{base64.urlsafe_b64encode(sha256(opening)).decode().rstrip('=')}?ct={TYPE}"


class Field(Chain):
    """The registrations, and last the call."""

    FORM = ("not a field file", FILE)

    def __init__(self, *given):
        super().__init__(*given)
        self.call = None

    def told(self):
        return f"private fields of a call on ledger {self.file['ledger']}"

    def run(self):
        self.attempt(self.link, "the ledger", "ledger-key", self.ledger_key)
        *before, last = self.file["entries"] or [None]
        for entry in before:
            self.call = None
            self.attempt(self.entry, entry)
            if self.call and self.call[1]["contract"] != "registry":
                self.links.append((self.call[0], "statement", False, "registers nobody"))
        self.call = None
        if last:
            self.attempt(self.entry, last)
        if self.call:
            self.attempt(self.shown, *self.call)
        else:
            self.links.append(("the call", "field", False, "is not proved, so nothing is shown"))
        self.others()

    def sealed(self, statement, key):
        """The last of the links that every entry has."""
        detail = super().sealed(statement, key)
        need(not statement["is_trigger"], "only calls belong into a field file")
        body = statement["body"]
        self.call = (f"entry {self.place} (call {body['contract']}/{body['action']})", body)
        return detail

    def included(self, statement, receipt):
        self.place = receipt["index"]
        return super().included(statement, receipt)

    def shown(self, about, body):
        for opening in self.link(about, "field", self.opened, body, silent=True):
            self.links.append((about, "field", True, f"{opening[2]} = {opening[1]!r}"))

    def opened(self, body):
        openings = []
        for data in self.file["openings"]:
            need(len(data) <= 2**16, "an opening is too long")
            opening = decode(data, "opening", OPENING)
            need(body["args"].get(opening[2]) == commitment(data), f"the call does not commit to this {opening[2]}")
            openings.append(opening)
        need(openings, "the file shows no field")
        need(len({opening[2] for opening in openings}) == len(openings), "two openings of one field")
        return openings


verify = partial(verify_as, Field)


if __name__ == "__main__":
    sys.exit(run("Verifies a Tallystick field file, offline.", verify))
