"""Deterministic CBOR, the forms of docs/formats, seals (COSE_Sign1, ES256) and Merkle trees (RFC 9162)."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (SEC 2, 2.4.2)
STATEMENT_TYPES = [f"application/vnd.tallystick.{kind}+cbor" for kind in ("trigger", "call", "batch")]
DEPTH_MAX = 32


class Fault(Exception):
    """Why a link does not hold."""


def need(condition, why):
    if not condition:
        raise Fault(why)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# ---- deterministic CBOR (RFC 8949 section 4.2.1) ----


def head(major, number):
    plain = cbor2.dumps(number)
    return bytes([plain[0] | major << 5]) + plain[1:]


def encode(item, depth=DEPTH_MAX):
    need(depth, "nested too deeply")
    if isinstance(item, Mapping):
        pairs = sorted((encode(key, depth - 1), encode(value, depth - 1)) for key, value in item.items())
        return head(5, len(item)) + b"".join(key + value for key, value in pairs)
    if isinstance(item, (list, tuple)):
        return head(4, len(item)) + b"".join(encode(one, depth - 1) for one in item)
    if isinstance(item, cbor2.CBORTag):
        return head(6, item.tag) + encode(item.value, depth - 1)
    need(item is None or type(item) in (bool, int, float, str, bytes), f"{type(item).__name__} has no place here")
    return cbor2.dumps(item, canonical=True)


def decode(data, what, form):
    try:
        item = cbor2.loads(data)
    except Exception as fault:  # cbor2 lets errors of every kind through
        raise Fault(f"{what}: not CBOR: {fault}") from fault
    need(encode(item) == data, f"{what}: not deterministic CBOR")
    need(form(item), f"{what}: not of its form")
    return item


# ---- forms, as in CDDL: functions that say whether an item fits ----


def integer(low, high):
    return lambda item: type(item) is int and low <= item <= high


UINT, INT = integer(0, 2**64 - 1), integer(-(2**63), 2**63 - 1)


def kind(*types):
    return lambda item: type(item) in types


TEXT, BYTES = kind(str), kind(bytes)


def scalar(item):
    return kind(bool, str)(item) or integer(-(2**63), 2**64 - 1)(item) or type(item) is float and item - item == 0.0


def sized(size):
    return lambda item: type(item) is bytes and len(item) == size


def like(pattern):
    return lambda item: type(item) is str and re.fullmatch(pattern, item) is not None


def one_of(*values):
    return lambda item: type(item) in map(type, values) and item in values


def each(form):
    return lambda item: isinstance(item, (list, tuple)) and all(map(form, item))


def row(*forms):
    return lambda item: isinstance(item, (list, tuple)) and len(item) == len(forms) and all(f(i) for f, i in zip(forms, item))


def table(key, value):
    return lambda item: isinstance(item, Mapping) and all(key(k) and value(v) for k, v in item.items())


def fields(required, optional=None):
    known = required | (optional or {})
    return lambda item: table(known.__contains__, any_item)(item) and set(required) <= set(item) and all(known[k](item[k]) for k in item)


def any_item(_):
    return True


def sign1(unprotected, payload):
    inner = row(BYTES, unprotected, payload, sized(64))
    return lambda item: isinstance(item, cbor2.CBORTag) and item.tag == 18 and inner(item.value)


HASH, KEY, SALT = sized(32), sized(65), sized(16)
ID, PARTY_ID, POINT_ID = like("[A-Za-z0-9_.-]{1,64}"), like("[A-Za-z0-9_.@-]{1,64}"), like("[A-Za-z_][A-Za-z0-9_]{0,63}")
UNIT, ES256 = like("[!-~]{1,32}"), one_of(-7)
PRIORITY = one_of("low", "medium", "high", "critical")
ITEM = integer(0, 999)
PROOF = {"outcome": BYTES, "outcome-index": UINT, "outcome-path": each(HASH), "checkpoint": BYTES}
WITNESSED = fields({
    "note": TEXT, "paths": each(each(HASH)), "witnesses": each(fields({"name": like(r"[^\s+\x00-\x1f\x7f]+"), "key": BYTES})),
})  # fmt: skip
TIMESTAMP = fields({"token": BYTES, "digest": HASH})
FILE = fields({
    "tallystick-evidence": one_of(1), "ledger": TEXT, "key": KEY, "agreement": TEXT, "terms": each(fields(PROOF)),
    "entries": each(fields(PROOF | {"statement": BYTES, "receipt": BYTES}, {
        "disclosure": BYTES, "batched": fields({"item": ITEM, "body": BYTES, "path": each(HASH)}),
    })),
}, {"witnessed": WITNESSED, "timestamp": TIMESTAMP})  # fmt: skip
SIGN1 = sign1(fields({}), BYTES)
STATEMENT_HEADER = fields({
    1: ES256, 3: one_of(*STATEMENT_TYPES), 4: HASH, 15: fields({1: PARTY_ID, 2: TEXT, 3: TEXT, 6: INT}),
})  # fmt: skip
BATCH = fields({"root": HASH, "count": integer(1, 1000), "first": UINT})
CALL = fields(
    {"contract": ID, "action": ID, "args": table(TEXT, any_item), "nonce": SALT, "at": INT}, {"agreement": ID}
)
BOUND, UNBOUND = fields({"state": one_of("synchronised"), "error-us": UINT}), fields({"state": one_of("free-running", "unknown")})


def CLOCK(item):
    return BOUND(item) or UNBOUND(item)


FINDING = fields({
    "code": one_of("frozen", "rate", "replay", "skew", "limits", "redundant", "related", "map", "identity"), "from": UINT, "to": UINT,
}, {"point": POINT_ID, "earlier": UINT})  # fmt: skip
QUALITY = fields({"class": one_of("sound", "doubtful", "contradicted"), "findings": each(FINDING)})


def line(bytes_max):
    """One line of text, not empty."""
    return lambda item: type(item) is str and 0 < len(item.encode()) <= bytes_max and all(unicodedata.category(one) != "Cc" for one in item)


ORIGIN = fields({"from": UINT, "over": one_of("modbus", "opc-ua", "mqtt", "replay"), "security": one_of("none", "sign", "sign-encrypt", "tls")}, {
    "policy": line(128), "certificate": HASH, "login": one_of("anonymous", "user-name", "certificate"), "identity": line(256),
})  # fmt: skip


def ORIGINS(item):
    """At least one, rising, each another than the one before; a certificate exactly where something is protected."""
    if not each(ORIGIN)(item) or not item:
        return False
    where = [{key: value for key, value in one.items() if key != "from"} for one in item]
    pairs = zip(item, item[1:], where, where[1:])
    return all(("certificate" in one) == (one["security"] != "none") for one in item) and all(
        one["from"] < following["from"] and here != there for one, following, here, there in pairs
    )


TRIGGER = fields({
    "trigger": ID, "device": ID, "rule": HASH, "transition": one_of("raised", "cleared"), "priority": PRIORITY,
    "at": INT, "number": UINT,
    "readings": fields({"first": UINT, "last": UINT, "root": HASH, "head": HASH, "points": table(POINT_ID, UINT)}),
}, {"call": fields({"contract": ID, "action": ID, "with": table(TEXT, scalar)}), "clock": CLOCK, "grade": one_of("device-sealed", "gateway-sealed"), "mapping": HASH, "origins": ORIGINS, "quality": QUALITY})  # fmt: skip
FLOAT = kind(float)
POINT_CHECKS = fields({}, {
    "frozen": fields({"readings": UINT, "for": UINT}), "rate": FLOAT, "replay": fields({"readings": UINT, "remembered": UINT}),
    "skew": UINT, "limits": row(FLOAT, FLOAT), "redundant": fields({"with": POINT_ID, "tolerance": FLOAT, "for": UINT}),
})  # fmt: skip
CHECKS = fields({"look-back": UINT, "points": table(POINT_ID, POINT_CHECKS)}, {
    "related": table(POINT_ID, fields({"holds": TEXT, "for": UINT})), "map": HASH, "identity": TEXT,
})  # fmt: skip
RULE = fields({
    "id": ID, "device": ID, "when": TEXT, "for": UINT, "priority": PRIORITY, "disclose": each(POINT_ID),
    "points": table(POINT_ID, row(one_of("bool", "integer", "float", "text", "any"), UNIT)),
}, {"until": TEXT, "call": fields({"contract": ID, "action": ID, "with": table(TEXT, TEXT)}), "checks": CHECKS})  # fmt: skip
PARTY = fields({
    "id": PARTY_ID, "kind": one_of("organisation", "person", "agent", "device", "regulator"), "name": TEXT, "key": KEY,
    "skills": each(TEXT),
}, {"firm": PARTY_ID})  # fmt: skip
DEVICE = fields({"id": ID, "agent": PARTY_ID, "owner": PARTY_ID}, {"site": ID})
RECEIPT = sign1(fields({396: fields({-1: row(BYTES)})}), kind(type(None)))
RECEIPT_HEADER = fields({1: ES256, 4: HASH, 15: fields({1: TEXT, 2: TEXT}), 395: one_of(1)})
CHECKPOINT_HEADER = fields({1: ES256, 3: one_of("application/vnd.tallystick.checkpoint+cbor"), 4: HASH})
CHECKPOINT = fields({
    "ledger": TEXT, "height": UINT, "size": UINT, "root": HASH, "state": HASH, "outcome-count": UINT, "outcomes": HASH,
    "time": INT, "previous": HASH,
})  # fmt: skip
EVENT = fields({"kind": TEXT, "subject": TEXT, "data": table(TEXT, any_item)})
MADE = {"height": UINT, "refusal": UINT, "events": each(EVENT)}
ENTRY_OUTCOME, TERM_OUTCOME = fields(MADE | {"entry": UINT, "statement": HASH}, {"item": ITEM}), fields(MADE | {"agreement": TEXT, "due": INT})
SHOWN, HIDDEN = row(SALT, BYTES), row(integer(1, 2**24), HASH)


def OUTCOME(item):
    return ENTRY_OUTCOME(item) or TERM_OUTCOME(item)


def PART(item):
    return SHOWN(item) or HIDDEN(item)


def VALUE(item):
    return scalar(item) or row(integer(1, 7))(item)


DISCLOSURE = fields({"device": ID, "first": UINT, "last": UINT, "parts": each(PART)})
BARE_READING = row(UINT, POINT_ID, UINT, VALUE, UNIT, integer(0, 2), INT, INT)
SEALED_READING = row(UINT, POINT_ID, UINT, VALUE, UNIT, integer(0, 2), INT, INT, BYTES)


def READING(item):
    return BARE_READING(item) or SEALED_READING(item)



# ---- signatures ----


def public_key(point):
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as fault:
        raise Fault("the key is not a point of P-256") from fault


def thumbprint(point):
    """RFC 9679: SHA-256 of the key as a COSE key with its required members only."""
    return sha256(encode({1: 2, -1: 1, -2: point[1:33], -3: point[33:]}))


def signed_bytes(protected, payload):
    return encode(["Signature1", protected, b"", payload])


def check_seal(point, kid, protected, payload, signature):
    need(kid == thumbprint(point), "another key is named")
    r, s = (int.from_bytes(signature[at : at + 32], "big") for at in (0, 32))
    need(0 < r < ORDER and 0 < s <= ORDER // 2, "the signature is not in the low-s form")
    try:
        der = utils.encode_dss_signature(r, s)
        public_key(point).verify(der, signed_bytes(protected, payload), ec.ECDSA(SHA256()))
    except InvalidSignature as fault:
        raise Fault("the signature does not fit") from fault


# ---- Merkle trees (RFC 9162) ----


def leaf_hash(data):
    return sha256(b"\0", data)


def node(left, right):
    return sha256(b"\1", left, right)


def root_of_path(leaf, index, size, path):
    """RFC 9162 section 2.1.3.2."""
    need(index < size, "the index is outside the tree")
    at, last, got = index, size - 1, leaf
    for sibling in path:
        need(last > 0, "the path is too long")
        if at & 1 or at == last:
            got = node(sibling, got)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            got = node(got, sibling)
        at, last = at >> 1, last >> 1
    need(last == 0, "the path is too short")
    return got


def root_of_parts(parts, size):
    """Root over the parts of a disclosure, taken from the front of the list, for a tree of `size` leaves."""
    need(parts, "parts are missing")
    first, second = parts[0]
    if first == size and type(first) is int:
        return parts.pop(0)[1]
    if size == 1:
        need(type(first) is bytes, "a hidden part covers no whole subtree")
        return sha256(b"\0", *parts.pop(0))
    split = 1 << (size - 1).bit_length() - 1
    left = root_of_parts(parts, split)
    return node(left, root_of_parts(parts, size - split))
