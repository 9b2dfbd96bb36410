#!/usr/bin/env python3
"""Verifies a Tallystick coverage file, offline: is any reading of a device missing between two times? Written from docs/formats
(coverage.cddl, anchor.cddl, state.md, verifying.md: *A coverage file*), with nothing but cbor2 and cryptography.

    coverage_check.py FILE [--ledger-key PEM] [--witness NAME=PEM]... [--need N] [--tsa-ca PEM] [--json] [--flips OFFSET:MASK,…]

Names each link as `tally verify` does. Exit code 0: every link holds, 1: one does not, 2: no answer.
"""

import sys
from functools import partial

import state_check
from verifier.formats import (
    BYTES,
    CALL,
    ES256,
    HASH,
    ID,
    INT,
    KEY,
    PARTY_ID,
    PROOF,
    SIGN1,
    TEXT,
    TIMESTAMP,
    UINT,
    WITNESSED,
    Fault,
    decode,
    each,
    fields,
    integer,
    need,
    one_of,
    row,
    sha256,
    signed_bytes,
)
from verify import Chain, open_receipt, run, shown_readings, verify_as

CALL_TYPE, ANCHOR_TYPE = (f"application/vnd.tallystick.{kind}+cbor" for kind in ("call", "anchor"))
HEADER = fields({
    1: ES256, 3: one_of(CALL_TYPE, ANCHOR_TYPE), 4: HASH, 15: fields({1: PARTY_ID, 2: TEXT, 3: TEXT, 6: INT}),
})  # fmt: skip
GAP = fields(
    {"reason": one_of("stopped", "not-kept", "refused", "new-vault"), "to": INT}, {"from": INT, "readings": row(UINT, UINT)}
)
ANCHOR = fields({
    "device": ID, "number": integer(1, 2**64 - 1), "previous": HASH, "first": UINT, "last": UINT, "root": HASH, "head": HASH,
    "received": row(INT, INT), "source": row(INT, INT), "pause": UINT,
}, {"gaps": each(GAP)})  # fmt: skip
FILE = fields({
    "tallystick-coverage": one_of(1), "ledger": TEXT, "key": KEY, "checkpoint": BYTES,
    "question": fields({"device": ID, "from": INT, "to": INT, "digest": HASH}),
    "entries": each(fields(PROOF | {"statement": BYTES, "receipt": BYTES}, {"disclosure": BYTES})),
    "state": each(fields({"key": BYTES, "proof": BYTES}, {"value": BYTES})),
}, {"timestamp": TIMESTAMP, "witnessed": WITNESSED})  # fmt: skip


def open_statement(data):
    protected, _, payload, signature = decode(data, "statement", SIGN1).value
    header = decode(protected, "statement header", HEADER)
    is_anchor = header[3] == ANCHOR_TYPE
    body = decode(payload, "body", ANCHOR if is_anchor else CALL)
    if is_anchor:
        check_form(body)
    # Never one of a batch, as verify.py asks.
    return {"is_anchor": is_anchor, "batch": None, "item": None, "kid": header[4], "claims": header[15], "body": body, "protected": protected,
            "payload": payload, "signature": signature, "id": sha256(signed_bytes(protected, payload))}  # fmt: skip


def check_form(body):
    """What anchor.cddl says in its comments."""
    gaps, first = body.get("gaps"), body["first"]
    need(first <= body["last"] < first + 2**24, "the range is none, or too long")
    need((body["number"] == 1) == (body["previous"] == bytes(32)), "`previous` is zeros for number 1 alone")
    need(body["received"][0] <= body["received"][1] and body["source"][0] <= body["source"][1], "times fall")
    need(gaps is None or 1 <= len(gaps) <= 64, "from 1 to 64 gaps")
    for gap in gaps or []:
        need(gap.get("from", gap["to"]) <= gap["to"] and ("from" in gap or gap["reason"] != "stopped"), "a gap without time")
        need(gap["reason"] != "new-vault" or body["number"] == 1, "only anchor 1 begins a vault")
        need(("readings" in gap) == (gap["reason"] in ("not-kept", "refused")), "readings of a gap")
        need("readings" not in gap or gap["readings"][0] <= gap["readings"][1] < first, "readings of a gap")


def begins(body):
    return body["number"] == 1 and any(gap["reason"] == "new-vault" for gap in body.get("gaps", []))


def follows(body, before):
    """anchor.cddl, the last paragraph; `before` is (number, digest, last)."""
    number, digest, last = (0, bytes(32), -1) if begins(body) else before
    declared = any(list(gap.get("readings", ())) == [last + 1, body["first"] - 1] for gap in body.get("gaps", []))
    need(body["number"] > number and body["first"] > last, "number or readings were given before")
    need(body["number"] == number + 1 or declared, f"anchor {body['number']} does not follow {number}")
    need(body["number"] > number + 1 or body["previous"] == digest, "another anchor stands before")
    need(body["first"] == last + 1 or declared, f"readings {last + 1} to {body['first'] - 1} are missing")


class Coverage(Chain):
    """The device's anchors, what the state says of it and its agents, and which time is covered."""

    FORM = ("not a coverage file", FILE)

    def __init__(self, *given):
        super().__init__(*given)
        self.anchors, self.signers, self.height, self.before = [], set(), 0, None

    def run(self):
        self.attempt(self.link, "the ledger", "ledger-key", self.ledger_key)
        self.attempt(self.link, "the question", "question", self.question)
        for entry in self.file["entries"]:
            self.attempt(self.entry, entry)
        self.attempt(self.state)
        for gap in self.judge():
            self.links.append((self.file["question"]["device"], "coverage", False, gap))
        if all(step != "coverage" for _, step, _, _ in self.links):
            self.links.append((self.file["question"]["device"], "coverage", True, "nothing is missing"))
        self.others()

    def statement_of(self, entry):
        return open_statement(entry["statement"])

    def told(self):
        return f"coverage of {self.file['question']['device']} on ledger {self.file['ledger']}"

    def question(self):
        asked = {name: value for name, value in self.file["question"].items() if name != "digest"}
        written = state_check.cbor2.dumps(asked, canonical=True)
        need(sha256(b"tallystick coverage question v1\0" + written) == self.file["question"]["digest"], "another question")
        need(asked["from"] <= asked["to"], "the times run backwards")
        return f"{asked['device']} from {asked['from']} to {asked['to']}"

    def entry(self, entry):
        statement = self.link("an entry", "statement", open_statement, entry["statement"], silent=True)
        receipt = self.link("an entry", "inclusion", open_receipt, entry["receipt"], silent=True)
        receipt["place"] = (receipt["index"], 0)
        body, is_anchor = statement["body"], statement["is_anchor"]
        words = "anchor {number} of {device}" if is_anchor else "call {contract}/{action}"
        about = f"entry {receipt['index']} ({words.format_map(body)})"
        # `meant` asks what the statement is about: an anchor is about its device, as a trigger.
        self.link(about, "statement", self.meant, {**statement, "is_trigger": is_anchor}, silent=True)
        root = self.link(about, "inclusion", self.included, statement, receipt, silent=True)
        self.links.append((about, "inclusion", True, f"entry {receipt['index']} of {receipt['size']}"))
        checkpoint, outcome = self.proved(about, entry)
        self.link(about, "checkpoint", self.covers, checkpoint, receipt, root)
        self.link(about, "outcome", self.belongs, outcome, entry, checkpoint, receipt, statement)
        key = self.link(about, "device-binding", self.signer, statement, checkpoint, silent=True)
        self.link(about, "seal", self.sealed, statement, key)
        self.last, self.height = receipt["place"], max(self.height, checkpoint["height"])
        if is_anchor:
            self.link(about, "device-binding", self.bound, body["device"], statement["claims"][1])
            self.link(about, "anchor", self.anchor, statement, outcome)
            if "disclosure" in entry:
                self.link(about, "readings", self.shown, body, entry)
        elif "disclosure" in entry:
            self.links.append((about, "readings", False, "a call has no readings"))
        if not is_anchor and body["contract"] == "registry" and outcome["refusal"] == 0:
            self.link(about, "device-binding", self.register, statement, outcome)

    def anchor(self, statement, outcome):
        body = statement["body"]
        need(body["device"] == self.file["question"]["device"], f"is about {body['device']}")
        need(outcome["refusal"] == 0, f"the ledger did not take it ({outcome['refusal']})")
        if self.before:
            follows(body, self.before)
        self.before = (body["number"], sha256(statement["payload"]), body["last"])
        self.anchors.append(body)
        self.signers.add(statement["claims"][1])
        return f"readings {body['first']} to {body['last']}"

    def shown(self, body, entry):
        """As those of a trigger, but that none is claimed."""
        claim = {"first": body["first"], "last": body["last"], "root": body["root"], "points": {}}
        return f"{len(shown_readings({'device': body['device'], 'readings': claim}, entry))} shown"

    def state(self):
        checkpoint = self.link("the state", "checkpoint", self.open_checkpoint, self.file["checkpoint"], silent=True)
        self.link("the state", "checkpoint", self.is_late, checkpoint)
        wanted = {b"z" + signer.encode() for signer in self.signers}
        for claim in self.file["state"]:
            self.attempt(self.link, "the state", "state", self.claim, claim, checkpoint["state"], wanted)
        for key in wanted:
            self.links.append(("the state", "state", False, f"nothing shows that {key[1:].decode()} is not revoked"))

    def is_late(self, checkpoint):
        need(checkpoint["height"] >= self.height, "the checkpoint is older than the entries")
        return f"height {checkpoint['height']}"

    def claim(self, claim, root, wanted):
        key, value = claim["key"], claim.get("value")
        try:
            state_check.check(key, value, state_check.strict(claim["proof"], "state proof"), root)
        except (state_check.Fault, KeyError, IndexError, ValueError, TypeError) as fault:
            raise Fault(str(fault)) from fault
        if key == b"d" + self.file["question"]["device"].encode():
            need(value is not None, "the device is not registered any more")
            return "the device's record"
        need(key in wanted, "a key that nobody asked for")
        wanted.discard(key)
        need(value is None, f"{key[1:].decode()} was revoked")
        return f"{key[1:].decode()} is not revoked"

    def judge(self):
        """What is missing of the time asked for."""
        begin, end = self.file["question"]["from"], self.file["question"]["to"]
        if not self.anchors:
            return ["no anchor covers it"]
        gaps, ever = [], -(2**63)
        if self.anchors[0]["received"][0] >= begin and not begins(self.anchors[0]):
            gaps.append("not covered at its beginning")
        if self.anchors[-1]["received"][1] <= end:
            gaps.append("not covered at its end")
        for place, anchor in enumerate(self.anchors):
            before = self.anchors[place - 1]["received"][1] if place else ever
            touching = (gap for gap in anchor.get("gaps", []) if gap.get("from", before) < end and gap["to"] > begin)
            gaps.extend(f"{gap['reason']} until {gap['to']}, as the agent declared" for gap in touching)
        return gaps


verify = partial(verify_as, Coverage)


if __name__ == "__main__":
    sys.exit(run("Verifies a Tallystick coverage file, offline.", verify, with_witnesses=True))
