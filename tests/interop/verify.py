#!/usr/bin/env python3
"""Verifies a Tallystick evidence file, offline. Written from docs/formats alone, with nothing of ours and nothing but
cbor2 and cryptography, to prove that a stranger can. Forms, seals and trees are in verifier/formats.py, the
language of the rules in verifier/rule.py.

    verify.py FILE [--ledger-key PEM] [--witness NAME=PEM]... [--need N] [--tsa-ca PEM] [--json]

Names each link as `tally verify` does. Exit code 0: every link holds, 1: one does not, 2: no answer.
"""

import argparse
import json
import sys
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import witness_notes as notes
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key, load_pem_public_key
from verifier import device_seal
from verifier.formats import (
    BATCH,
    BYTES,
    CALL,
    CHECKPOINT,
    CHECKPOINT_HEADER,
    DEVICE,
    DISCLOSURE,
    FILE,
    HASH,
    OUTCOME,
    PARTY,
    READING,
    RECEIPT,
    RECEIPT_HEADER,
    RULE,
    SIGN1,
    STATEMENT_HEADER,
    STATEMENT_TYPES,
    TRIGGER,
    UINT,
    Fault,
    check_seal,
    decode,
    each,
    leaf_hash,
    need,
    public_key,
    root_of_parts,
    root_of_path,
    row,
    sha256,
    signed_bytes,
    thumbprint,
)
from verifier.readable import as_cbor
from verifier import attest, checks, timestamp
from verifier.rule import RuleFault, longest_window, recompute


EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Broken(Exception):
    """A link does not hold and is recorded: nothing after it in the same entry is checked."""


# ---- the links, as verifying.md has them ----


class Chain:
    """What the links so far have proved, and how each of them came out."""

    FORM = ("not an evidence file", FILE)

    def __init__(self, file, trusted, witnesses=(), need=0, authorities=None):
        self.file, self.trusted, self.links = file, trusted, []
        self.authorities, self.times, self.origins = authorities, [], []
        self.witnesses, self.needed = dict(witnesses), need
        self.parties, self.devices, self.rules, self.device_ids = {}, {}, {}, set()
        self.last, self.checkpoints, self.events = (-1, 0), {}, []
        self.entries, self.terms = set(), set()
        self.contracts, self.version, self.words, self.firms = [], None, [], {}

    def link(self, about, step, check, *given, silent=False):
        """Does a check; records its detail, or why it does not hold and ends the entry."""
        try:
            result = check(*given)
        except Fault as fault:
            self.links.append((about, step, False, str(fault)))
            raise Broken from fault
        if not silent:
            self.links.append((about, step, True, result))
        return result

    def run(self):
        """Links 2 to 5."""
        self.attempt(self.link, "the ledger", "ledger-key", self.ledger_key)
        for entry in self.file["entries"]:
            self.attempt(self.entry, entry)
        for term in self.file["terms"]:
            self.attempt(self.term, term)
        self.attempt(self.link, self.file["agreement"], "history", self.history)
        self.others()

    def told(self):
        return f"evidence about {self.file['agreement']} on ledger {self.file['ledger']}"

    def statement_of(self, entry):
        return open_statement(entry)

    def others(self):
        """The word of others: witnesses, and an authority of time."""
        if "witnessed" in self.file or self.needed:
            self.attempt(self.link, "the witnesses", "witness", self.witnessed)
        if "timestamp" in self.file or self.authorities:
            self.attempt(self.link, "the time-stamp", "timestamp", self.stamped)

    def stamped(self):
        need("timestamp" in self.file, "is wanted, the file has none")
        return timestamp.check(self.file, self.authorities)

    def tell_times(self, about, body, readings, checkpoint):
        """Three clocks beside each other: the device's, the agent's with how good it says it was, the ledger's."""
        last = next((one for one in readings or [] if one[0] == body["readings"]["last"]), None)
        self.times.append({"about": about, "source": last and last[5], "received": last and last[4],
                           "agent_clock": body.get("clock"), "block": checkpoint["time"]})  # fmt: skip

    def witnessed(self):
        """What witnesses signed covers every entry, and enough of those the reader knows signed it."""
        given = self.file.get("witnessed")
        need(given, f"{self.needed} are needed, the file carries the word of none")
        listed = {witness["name"]: note_key(witness["key"]) for witness in given["witnesses"]}
        own = (self.file["ledger"], load_pem_public_key_of(self.file["key"]))
        try:
            size, root = notes.open_note(given["note"], *own)
            _, signatures = notes.split_note(given["note"])
            known = {(name, notes.cosigner_id(name, key)) for name, key in listed.items()} | {(own[0], notes.log_id(*own))}
            need({(name, key_id) for name, key_id, _ in signatures} == known, "not signed by exactly those listed")
            asked = self.witnesses or listed
            times = {name: notes.cosigned_at(given["note"], name, key) for name, key in (listed | asked).items()}
        except (notes.NoteFault, ValueError) as fault:
            raise Fault(str(fault)) from fault
        need(len(given["paths"]) == len(self.file["entries"]), "not one path for each entry")
        for entry, path in zip(self.file["entries"], given["paths"]):
            statement, receipt = self.statement_of(entry), open_receipt(entry["receipt"])
            reached = root_of_path(leaf_hash(statement["id"]), receipt["index"], size, path)
            need(reached == root, f"entry {receipt['index']} is not in the tree that they signed")
        keys = {notes.spki(asked[name]) for name in asked if times[name]} - {notes.spki(own[1])}
        need(len(keys) >= self.needed, f"{self.needed} are needed, {len(keys)} of those you know signed")
        return f"{', '.join(name for name in asked if times[name])} signed a tree of {size} entries"

    def attempt(self, check, *given, **how):
        try:
            return check(*given, **how)
        except Broken:
            return None

    def ledger_key(self):
        shown = thumbprint(self.file["key"]).hex()
        if self.trusted is None:
            return f"{shown} (taken from the file: compare it, or give --ledger-key)"
        need(self.trusted == self.file["key"], f"the file was made by the ledger key {shown}, not the one given")
        return "is the key you gave"

    def entry(self, entry):
        statement = self.link("an entry", "statement", open_statement, entry, silent=True)
        receipt = self.link("an entry", "inclusion", open_receipt, entry["receipt"], silent=True)
        body, is_trigger = statement["body"], statement["is_trigger"]
        words = "trigger {trigger} {transition}" if is_trigger else "call {contract}/{action}"
        item = statement["item"]
        place = receipt["index"] if item is None else f"{receipt['index']}.{item}"
        receipt["place"] = (receipt["index"], 0 if item is None else item + 1)
        about = f"entry {place} ({words.format_map(body)})"
        self.link(about, "statement", self.meant, statement, silent=True)
        root = self.link(about, "inclusion", self.included, statement, receipt, silent=True)
        self.links.append((about, "inclusion", True, f"entry {receipt['index']} of {receipt['size']}"))
        checkpoint, outcome = self.proved(about, entry)
        self.link(about, "checkpoint", self.covers, checkpoint, receipt, root)
        self.link(about, "outcome", self.belongs, outcome, entry, checkpoint, receipt, statement)
        key = self.link(about, "device-binding", self.signer, statement, checkpoint, silent=True)
        self.link(about, "seal", self.sealed, statement, key)
        if item is not None:
            self.link(about, "batch", self.batched, statement, entry["batched"])
        self.last = receipt["place"]
        self.happened(outcome, entry)
        opened = next((event["data"] for event in outcome["events"] if event["kind"] == "agreement.opened"), {})
        self.version = str(opened["version"]) if "version" in opened else self.version
        if is_trigger:
            self.tell_times(about, body, self.trigger(about, statement, entry), checkpoint)
            self.several(about, statement, outcome, receipt["index"])
        elif "disclosure" in entry:
            self.links.append((about, "readings", False, "a call has no readings"))
        if not is_trigger and body["contract"] == "registry" and outcome["refusal"] == 0:
            self.attempt(self.link, about, "device-binding", self.register, statement, outcome)

    def meant(self, statement):
        body, claims = statement["body"], statement["claims"]
        need(claims[3] == self.file["ledger"], f"was made for ledger {claims[3]}")
        about = body["device"] if statement["is_trigger"] else body.get("agreement", body["contract"])
        about = about if statement["batch"] is None else claims[1]
        need(claims[2] == about, f"its subject is {claims[2]}, its body is about {about}")

    def included(self, statement, receipt):
        claims = receipt["header"][15]
        need(claims == {1: self.file["ledger"], 2: statement["claims"][2]}, "the receipt is for another ledger or subject")
        need(receipt["place"] > self.last, "the entries are not in ledger order")
        root = root_of_path(leaf_hash(statement["id"]), receipt["index"], receipt["size"], receipt["path"])
        check_seal(self.file["key"], receipt["header"][4], receipt["protected"], root, receipt["signature"])
        return root

    def proved(self, about, proof):
        """Checkpoint and outcome of an entry or a term."""
        checkpoint = self.link(about, "checkpoint", self.open_checkpoint, proof["checkpoint"], silent=True)
        outcome = self.link(about, "outcome", self.open_outcome, proof, checkpoint, silent=True)
        return checkpoint, outcome

    def open_checkpoint(self, data):
        protected, _, payload, signature = decode(data, "checkpoint", SIGN1).value
        header = decode(protected, "checkpoint header", CHECKPOINT_HEADER)
        check_seal(self.file["key"], header[4], protected, payload, signature)
        checkpoint = decode(payload, "checkpoint", CHECKPOINT)
        need(checkpoint["ledger"] == self.file["ledger"], "the checkpoint is of another ledger")
        self.follows(checkpoint, sha256(payload))
        return checkpoint

    def follows(self, checkpoint, digest):
        """Besides: the checkpoints of the file among themselves."""
        height = checkpoint["height"]
        need(self.checkpoints.setdefault(height, (checkpoint, digest))[1] == digest, f"two checkpoints of height {height}")
        need(height > 0 or checkpoint["previous"] == bytes(32), "the first checkpoint follows none")
        row = [self.checkpoints[at] for at in sorted(self.checkpoints)]
        for (older, before), (newer, _) in zip(row, row[1:]):
            need(older["size"] <= newer["size"] and older["time"] <= newer["time"], "size or time of the checkpoints falls")
            is_next = older["height"] + 1 == newer["height"]
            need(not is_next or newer["previous"] == before, "the checkpoint does not follow the one before")

    def open_outcome(self, proof, checkpoint):
        outcome = decode(proof["outcome"], "outcome", OUTCOME)
        leaf = leaf_hash(proof["outcome"])
        root = root_of_path(leaf, proof["outcome-index"], checkpoint["outcome-count"], proof["outcome-path"])
        need(root == checkpoint["outcomes"], "the outcome is not among those of the checkpoint")
        need(outcome["height"] == checkpoint["height"], "the outcome is of another block")
        return outcome

    def covers(self, checkpoint, receipt, root):
        need((checkpoint["size"], checkpoint["root"]) == (receipt["size"], root), "another tree than the receipt's")
        return f"height {checkpoint['height']}"

    def belongs(self, outcome, proof, checkpoint, receipt, statement):
        place = (outcome.get("entry"), outcome.get("statement"), outcome.get("item"))
        need(place == (receipt["index"], statement["id"], statement["item"]), "the outcome belongs to another entry")
        behind = checkpoint["outcome-count"] - proof["outcome-index"]
        # Besides: one of each entry, and behind that of a batch those of its triggers.
        need(behind >= receipt["size"] - receipt["index"], "the outcome stands in another entry's place")
        if outcome["refusal"]:
            return f"refused ({outcome['refusal']})"
        return "done: " + ", ".join(event["kind"] for event in outcome["events"])

    def signer(self, statement, checkpoint):
        """The key that the statement names, when it spoke at the time of its block, else the latest."""
        issuer = statement["claims"][1]
        if issuer == self.file["ledger"]:
            return self.file["key"]
        held = self.parties.get(issuer)
        need(held, f"{issuer} is not registered by an earlier entry of this file")
        in_force = (key for key, until in held if until is None or checkpoint["time"] <= until)
        return next((key for key in in_force if thumbprint(key) == statement["kid"]), held[-1][0])

    def sealed(self, statement, key):
        check_seal(key, statement["kid"], statement["protected"], statement["payload"], statement["signature"])
        return f"sealed by {statement['claims'][1]}"

    def batched(self, statement, batched):
        batch, item, number = statement["batch"], batched["item"], statement["body"]["number"]
        root = root_of_path(leaf_hash(batched["body"]), item, batch["count"], batched["path"])
        need(root == batch["root"], "the trigger is not one of those that the batch seals")
        need(number == batch["first"] + item, f"trigger {item} of the batch has number {number}")
        return f"trigger {item} of {batch['count']} under one seal"

    def register(self, statement, outcome):
        args, action = statement["body"]["args"], statement["body"]["action"]
        if action in ("rotate-key", "approve-recovery"):
            return self.new_key(args, outcome)
        need(action != "genesis" or statement["claims"][1] == self.file["ledger"], "genesis is the ledger's own")
        texts = args.get("contracts", []) if action == "genesis" else [args["text"]] if action == "deploy-contract" and "text" in args else []
        self.contracts += filter(None, (attest.read(text) for text in texts if isinstance(text, str)))
        word = action.removeprefix("register-")
        word = "device" if action in ("bind-device", "accept-transfer") else word
        names = (("party", "parties"), ("device", "devices"), ("rule", "rules"))
        given = [args.get(many, []) if action == "genesis" else [args[one]] if one == word and one in args else [] for one, many in names]
        if action == "register-many":
            refused = [event["data"] for event in outcome["events"] if event["kind"] == "registry.record-refused"]
            places = {(data["list"], data["place"]) for data in refused}
            given = [[one for place, one in enumerate(args.get(many, [])) if (many, place) not in places] for _, many in names]
        parties, devices, rules = given
        need(each(PARTY)(parties) and each(DEVICE)(devices) and each(BYTES)(rules), "a record is not of its form")
        for party in parties:
            public_key(party["key"])
            if party.get("firm"):
                self.firms[party["id"]] = party["firm"]
            self.parties[party["id"]] = [(party["key"], None)]
            if party["kind"] == "device":
                self.device_ids.add(party["id"])
        self.devices.update((device["id"], device["agent"]) for device in devices)
        self.rules.update((sha256(rule), decode(rule, "rule", RULE)) for rule in rules)
        return f"registers {sum(map(len, given))} parties, devices and rules"

    def new_key(self, args, outcome):
        """A key that takes the place of another, which may still speak for a while: both stand in the outcome."""
        kinds = ("registry.key-rotated", "registry.key-recovered")
        event = next((event for event in outcome["events"] if event["kind"] in kinds), None)
        if event is None:
            return "registers 0 parties, devices and rules"
        public_key(args["key"])
        party, until = event["subject"], event["data"].get("until")
        before = self.parties.get(party, [])[-1:] if until is not None else []
        self.parties[party] = [(key, until) for key, _ in before] + [(args["key"], None)]
        return "registers 1 parties, devices and rules"

    def trigger(self, about, statement, entry):
        body, agent = statement["body"], statement["claims"][1]
        self.attempt(self.link, about, "device-binding", self.bound, body["device"], agent)
        rule = self.attempt(self.link, about, "rule", self.registered_rule, body)
        if "origins" in body:
            self.attempt(self.link, about, "origin", self.origin, about, body)
        readings = self.attempt(self.readings, about, body, entry)
        if readings is not None:
            self.attempt(self.own_seals, about, body, readings)
        if rule and readings is not None:
            self.attempt(self.link, about, "recomputed", self.recomputed, body, readings)
            if "checks" in self.rules[body["rule"]] or "quality" in body:
                self.attempt(self.link, about, "truth", self.truth, body, readings)
        return readings

    def origin(self, about, body):
        """Where the readings come from, by the agent's word: of readings that are the trigger's own."""
        first, last = body["readings"]["first"], body["readings"]["last"]
        strange = [one["from"] for one in body["origins"] if not first <= one["from"] <= last]
        need(not strange, f"it speaks of reading {strange and strange[0]}, the trigger is about {first}–{last}")
        ends = [one["from"] - 1 for one in body["origins"][1:]] + [last]
        told = [dict(one, about=about, to=end) for one, end in zip(body["origins"], ends)]
        self.origins += [one | ({"certificate": one["certificate"].hex()} if "certificate" in one else {}) for one in told]
        return "; ".join(f"readings {one['from']}–{one['to']}: {one['over']}, security {one['security']}" for one in told)

    def several(self, about, statement, outcome, index):
        if outcome["refusal"] == 0:
            body = statement["body"]
            self.words.append((index, statement["claims"][1], body))
            text = self.text(body["call"]["contract"]) if "call" in body else None
            judged = partial(attest.judge, body, outcome["events"], text, self.words, self.firms)
            words = self.attempt(self.link, about, "attested", judged, silent=True)
            if words is not None:
                self.links.append((about, "attested", True, words))

    def text(self, contract):
        """The contract's text: in the version of the agreement, once that is known."""
        fits = (text for text in self.contracts if text["contract"] == contract and self.version in (None, text["version"]))
        return next(iter(reversed(list(fits))), None)

    def bound(self, device, agent):
        need(device in self.devices, f"{device} is not registered by an earlier entry of this file")
        need(self.devices[device] == agent, f"{device} is spoken for by {self.devices[device]}, not by {agent}")
        return f"{agent} speaks for {device}"

    def registered_rule(self, body):
        rule = self.rules.get(body["rule"])
        need(rule, "the rule is not registered by an earlier entry of this file")
        need((rule["id"], rule["device"]) == (body["trigger"], body["device"]), "the rule is another trigger's")
        need(rule["priority"] == body["priority"], "the rule has another priority")  # besides
        return body["rule"].hex()[:12] + "…"

    def readings(self, about, body, entry):
        shown = self.link(about, "readings", shown_readings, body, entry, silent=True)
        first, last = body["readings"]["first"], body["readings"]["last"]
        detail = f"readings {first}–{last}: {len(shown)} shown, {last - first + 1 - len(shown)} hidden"
        self.links.append((about, "readings", True, detail))
        return shown

    def own_seals(self, about, body, readings):
        device, claimed = body["device"], body.get("grade") == "device-sealed"
        keys = self.parties[device] if device in self.device_ids else []
        if not claimed and (not keys or all(reading[7] is None for reading in readings)):
            return
        self.link(about, "device-seal", self.sealed_by_device, body, readings, keys, claimed)

    def sealed_by_device(self, body, readings, keys, claimed):
        need(keys, f"no key of device {body['device']} is registered by an earlier entry of this file")
        detail = device_seal.check(body["device"], keys, [(r[0], r[1], r[4], r[5], r[7]) for r in readings])
        rule = self.rules.get(body["rule"])
        need(not claimed or rule, "without its rule nobody knows which readings must be sealed")
        bare = [reading[0] for reading in readings if claimed and reading[1] in rule["points"] and reading[7] is None]
        need(not bare, f"it says device-sealed, but reading {bare and bare[0]} is not")
        return detail

    def recomputed(self, body, readings):
        rule = self.rules[body["rule"]]
        due = rule.get("call") if body["transition"] == "raised" else None
        asked = body.get("call")
        need((due and (due["contract"], due["action"])) == (asked and (asked["contract"], asked["action"])),
             "the trigger asks the contract for something else than the rule says")  # fmt: skip
        try:
            why_not = recompute(rule, body, [reading[:5] for reading in readings])
        except (RuleFault, RecursionError) as fault:
            raise Fault(f"the registered rule: {fault}") from fault
        need(why_not is None, why_not)
        return f"{rule['when']} at {body['at']}"

    def truth(self, body, readings):
        rule = self.rules[body["rule"]]
        try:
            why_not, words = checks.confirm(rule, body, readings, longest_window(rule))
        except (RuleFault, RecursionError) as fault:
            raise Fault(f"the registered rule: {fault}") from fault
        need(why_not is None, why_not)
        return f"{body['quality']['class']}, {len(body['quality']['findings'])} findings, {len(words)} of them the agent's word"

    def term(self, term):
        checkpoint, outcome = self.proved("a term", term)
        self.link("a term", "outcome", self.ran_out, outcome, checkpoint)
        self.happened(outcome, term)

    def happened(self, outcome, proof):
        self.events.append((outcome["height"], proof["outcome-index"], outcome["events"]))
        if "agreement" in outcome:
            self.terms.add(outcome["due"])
        else:
            self.entries.add((outcome["entry"], outcome["item"]) if "item" in outcome else outcome["entry"])

    def whole(self, retirement):
        """Every step that the retirement names is in the file."""
        for what, there in (("entries", self.entries), ("terms", self.terms)):
            named = retirement.get(what)
            need(isinstance(named, (list, tuple)), f"its retirement does not name its {what}")
            missing = [one for one in named if (tuple(one) if isinstance(one, (list, tuple)) else one) not in there]
            need(not missing, f"its retirement names among its {what} {missing and missing[0]}, which this file lacks")

    def ran_out(self, outcome, checkpoint):
        need(outcome.get("agreement") == self.file["agreement"], "not the outcome of a term of the agreement")
        return f"ran out at height {checkpoint['height']}"

    def history(self):
        state, held, ended, retired = None, 0, None, False
        events = [event for _, _, events in sorted(self.events, key=lambda one: one[:2]) for event in events]
        for kind, data in ((event["kind"], event["data"]) for event in events if event["subject"] == self.file["agreement"]):
            need(not retired, f"{kind} comes behind its retirement")
            if kind == "agreement.opened":
                state = data.get("state")
            elif kind == "agreement.moved":
                need(data.get("from") == state, f"moves from {data.get('from')} without having got there from {state}")
                state, ended = data.get("to"), data.get("ended")
            elif kind == "agreement.retired":
                retired = True
                need(ended is not False and data.get("state") == state, "is retired without having ended so")
                self.whole(data)
            elif kind in ("escrow.held", "payment.made", "escrow.released"):
                held += data.get("amount", 0) * (1 if kind == "escrow.held" else -1)
                need(held >= 0, "more money left the escrow than was held")  # besides
        need(state is not None, "no outcome in this file opens this agreement")
        return f"without a hole, now {state}" + (", retired; nothing of it is missing" if retired else "")


def open_statement(entry):
    protected, _, payload, signature = decode(entry["statement"], "statement", SIGN1).value
    header = decode(protected, "statement header", STATEMENT_HEADER)
    batched, is_batch = entry.get("batched"), header[3] == STATEMENT_TYPES[2]
    need(is_batch == (batched is not None), "a batch is shown with one trigger of it, and nothing else is")
    is_trigger = is_batch or header[3] == STATEMENT_TYPES[0]
    batch = decode(payload, "batch", BATCH) if is_batch else None
    body = decode(batched["body"] if is_batch else payload, "body", TRIGGER if is_trigger else CALL)
    need(not is_trigger or body["readings"]["first"] <= body["readings"]["last"], "the readings run backwards")
    if is_trigger and "quality" in body:
        found = body["quality"]["findings"]
        keys = [(checks.CODES.index(one["code"]), one.get("point", "")) for one in found]
        fits = keys == sorted(set(keys)) and len(found) <= 1024 and all(one["from"] <= one["to"] for one in found)
        need(fits and checks.class_of(found) == body["quality"]["class"], "the evidence quality is not in the form that the checks give it")
    return {"is_trigger": is_trigger, "batch": batch, "item": batched["item"] if is_batch else None, "kid": header[4], "claims": header[15], "body": body, "protected": protected,
            "payload": payload, "signature": signature, "id": sha256(signed_bytes(protected, payload))}  # fmt: skip


def open_receipt(data):
    protected, unprotected, _, signature = decode(data, "receipt", RECEIPT).value
    size, index, path = decode(unprotected[396][-1][0], "inclusion proof", row(UINT, UINT, each(HASH)))
    return {"header": decode(protected, "receipt header", RECEIPT_HEADER), "protected": protected,
            "signature": signature, "size": size, "index": index, "path": path}  # fmt: skip


def shown_readings(body, entry):
    """The readings shown, as (number, point, value or None, unit, received, source time, whether out of range, seal or None), when they are whole."""
    need("disclosure" in entry, "the readings behind it are not in this file")
    disclosure, claim = decode(entry["disclosure"], "disclosure", DISCLOSURE), body["readings"]
    found = (disclosure["device"], disclosure["first"], disclosure["last"])
    need(found == (body["device"], claim["first"], claim["last"]), "the readings shown are of another device or range")
    parts, span = list(disclosure["parts"]), claim["last"] - claim["first"] + 1
    need(span <= 2**24 and root_of_parts(parts, span) == claim["root"] and not parts,
         "the readings shown do not give the root that was sealed")  # fmt: skip
    place, latest, shown = claim["first"], {}, []
    for salt_or_count, content in disclosure["parts"]:
        if type(salt_or_count) is int:
            place += salt_or_count
            continue
        number, point, point_number, value, unit, quality, source, received, *seal = decode(content, "reading", READING)
        out_of_range = isinstance(value, (tuple, list)) and list(value) == [6]
        value = None if isinstance(value, (tuple, list)) else value
        need((quality == 2) == (value is None), "quality is bad exactly when there is no value")
        need(number == place, f"reading {number} stands in the place of reading {place}")
        need(point_number == latest.get(point, point_number - 1) + 1, f"a reading of {point} is not shown")
        place, latest[point] = place + 1, point_number
        shown.append((number, point, value, unit, received, source, out_of_range, seal[0] if seal else None))
    for point, number in claim["points"].items():
        need(latest.get(point) == number, f"reading {number} of {point} is not shown")
    return shown


def load_pem_public_key_of(sec1):
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sec1)


def note_key(spki):
    """A witness's key in the one form that witness.md allows."""
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as fault:
        raise Fault("a witness's key is none") from fault
    need(isinstance(key, (ed25519.Ed25519PublicKey, ec.EllipticCurvePublicKey)) and notes.spki(key) == spki, "a witness's key is none")
    return key


class Links(list):
    """All links: (about, step, whether it holds, detail); and beside them times and origins of readings, which are shown only."""

    times, origins = (), ()


def verify_as(kind, data, trusted=None, witnesses=(), need_witnesses=0, authorities=None):
    """All links of a file of one kind, which is a class of chains: its form, its story in `told`, its links in `run`."""
    chain = kind(None, trusted, witnesses, need_witnesses, authorities)

    def opened():
        chain.file = decode(as_cbor(data), *kind.FORM)
        public_key(chain.file["key"])
        for witness in chain.file.get("witnessed", {"witnesses": []})["witnesses"]:
            note_key(witness["key"])
        return chain.told()

    chain.attempt(chain.link, "the file", "file", opened)
    if chain.links[0][2]:
        chain.run()
    links = Links(chain.links)
    links.times, links.origins = chain.times, chain.origins
    return links


verify = partial(verify_as, Chain)


def holds(links):
    return sum(link[1] != "timestamp" for link in links) > 2 and all(link[2] for link in links)


def as_json(links):
    names = ("about", "step", "holds", "detail")
    return {"holds": holds(links), "links": [dict(zip(names, link)) for link in links], "times": list(getattr(links, "times", ())), "origins": list(getattr(links, "origins", ()))}


def as_time(micros):
    return "not proved" if micros is None else (EPOCH + timedelta(microseconds=micros)).isoformat()


def run(description, verify, with_witnesses=False):
    """The command line of a verifier; gives the exit code."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("file", type=Path)
    parser.add_argument("--ledger-key", type=Path, help="the ledger's public key as you know it (SPKI PEM)")
    parser.add_argument("--tsa-ca", type=Path, help="authorities of time-stamps you trust (PEM)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--flips", help="also verify copies with one wrong byte: OFFSET:MASK,… (for the test; JSON)")
    if with_witnesses:
        parser.add_argument("--witness", action="append", default=[], metavar="NAME=PEM", help="a witness you know")
        parser.add_argument("--need", type=int, help="how many of them must have signed; all when not said")
    asked = parser.parse_args()
    try:
        data, trusted = asked.file.read_bytes(), None
        if asked.tsa_ca:
            verify = partial(verify, authorities=x509.load_pem_x509_certificates(asked.tsa_ca.read_bytes()))
        if with_witnesses:
            known = dict(witness.split("=", 1) for witness in asked.witness)
            known = {name: load_pem_public_key(Path(file).read_bytes()) for name, file in known.items()}
            verify = partial(verify, witnesses=known, need_witnesses=len(known) if asked.need is None else asked.need)
        if asked.ledger_key:
            key = load_pem_public_key(asked.ledger_key.read_bytes())
            trusted = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    except (OSError, ValueError) as fault:
        print(f"{parser.prog}: {fault}", file=sys.stderr)
        return 2
    links = verify(data, trusted)
    if asked.flips:
        flips = (map(int, flip.split(":")) for flip in asked.flips.split(","))
        copies = (data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :] for at, mask in flips)
        print(json.dumps([as_json(links), *(as_json(verify(copy, trusted)) for copy in copies)]))
    elif asked.json:
        print(json.dumps(as_json(links)))
    else:
        for about, step, link_holds, detail in links:
            print(f"{about:42} {step:15} {'holds' if link_holds else 'DOES NOT HOLD':14} {detail}")
        for times in getattr(links, "times", ()):
            clock = times["agent_clock"] or "did not say how good its clock was"
            print(f"{times['about']:42} times           device {as_time(times['source'])}, agent {as_time(times['received'])} ({clock}), block {as_time(times['block'])}")
        for one in getattr(links, "origins", ()):
            more = ", ".join(f"{name} {one[name]}" for name in ("policy", "certificate", "login", "identity") if name in one)
            print(f"{one['about']:42} origin          readings {one['from']}–{one['to']}: {one['over']}, security {one['security']}{more and ', ' + more}")
    return 0 if holds(links) else 1


if __name__ == "__main__":
    sys.exit(run("Verifies a Tallystick evidence file, offline.", verify, with_witnesses=True))
