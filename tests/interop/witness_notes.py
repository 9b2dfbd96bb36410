"""Signed notes, cosignatures and consistency of C2SP, written from its specifications (signed-note, tlog-checkpoint, tlog-cosignature)
and docs/formats/witness.md, with nothing of ours and nothing but cryptography."""

import base64
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

DASH = "\u2014"
# Half the order of P-256: a cosignature has s in the lower half.
HALF_ORDER = 0x7FFFFFFF800000007FFFFFFFFFFFFFFFDE737D56D38BCF4279DCE5617E3192A8
OURS = b"\xfftallystick/cosignature-p256/v1"


class NoteFault(Exception):
    pass


def sha256(data):
    return hashlib.sha256(data).digest()


def spki(key):
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def typed(key):
    """Signature type and key of a cosigner."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return b"\x04" + key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return OURS + key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def cosigner_id(name, key):
    return sha256(name.encode() + b"\n" + typed(key))[:4]


def log_id(name, key):
    if isinstance(key, ed25519.Ed25519PublicKey):
        return sha256(name.encode() + b"\n\x01" + key.public_bytes(Encoding.Raw, PublicFormat.Raw))[:4]
    return sha256(spki(key))[:4]


def split_note(note):
    """Text, and its signatures as (name, key id, signature)."""
    if any(ord(char) < 32 and char != "\n" for char in note):
        raise NoteFault("control characters")
    text, found, lines = note.rpartition("\n\n")
    if not found or not lines.endswith("\n"):
        raise NoteFault("no signatures")
    signatures = []
    for line in lines[:-1].split("\n"):
        dash, name, written = line.split(" ")
        blob = base64.b64decode(written, validate=True)
        # One signature, one text: bits behind the last byte are zero.
        if dash != DASH or not name or len(blob) < 5 or base64.b64encode(blob).decode() != written:
            raise NoteFault("a signature line is none")
        signatures.append((name, blob[:4], blob[4:]))
    return text + "\n", signatures


def tree(text):
    origin, size, root = text.split("\n")[:3]
    if str(int(size)) != size or len(base64.b64decode(root, validate=True)) != 32:
        raise NoteFault("no checkpoint")
    return origin, int(size), base64.b64decode(root)


def verify(key, signature, message):
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as fault:
        raise NoteFault("a signature does not hold") from fault


def open_note(note, origin, key):
    """Size and root, when the log signed them."""
    text, signatures = split_note(note)
    own = [signature for name, key_id, signature in signatures if (name, key_id) == (origin, log_id(origin, key))]
    if not own:
        raise NoteFault("not signed by the log")
    for signature in own:
        verify(key, signature, text.encode())
    found, size, root = tree(text)
    if found != origin:
        raise NoteFault("another log")
    return size, root


def cosigned_at(note, name, key):
    """The last time at which a witness cosigned; None when it did not."""
    text, signatures = split_note(note)
    times = []
    for signer, key_id, blob in signatures:
        if (signer, key_id) != (name, cosigner_id(name, key)):
            continue
        time, signature = int.from_bytes(blob[:8], "big"), blob[8:]
        if len(signature) != 64 or not 0 < time < 1 << 63:
            raise NoteFault("no timestamped signature")
        if not isinstance(key, ed25519.Ed25519PublicKey):
            r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            if s > HALF_ORDER:
                raise NoteFault("s is in the upper half")
            signature = encode_dss_signature(r, s)
        verify(key, signature, f"cosignature/v1\ntime {time}\n{text}".encode())
        times.append(time)
    return max(times, default=None)


def cosign(text, name, key, time):
    """A signature line with an Ed25519 key."""
    signature = key.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
    blob = cosigner_id(name, key.public_key()) + time.to_bytes(8, "big") + signature
    return f"{DASH} {name} {base64.b64encode(blob).decode()}\n"


def node(left, right):
    return sha256(b"\x01" + left + right)


def roots(first, second, first_root, path):
    """Old and new root that a consistency path leads to (RFC 9162, 2.1.4.2); None when it does not fit."""
    if first == second:
        return (first_root, first_root) if not path else None
    if not 0 < first < second or not (path or first & (first - 1) == 0):
        return None
    path = [first_root, *path] if first & (first - 1) == 0 else list(path)
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old = new = path[0]
    for step in path[1:]:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            old, new = node(step, old), node(step, new)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = node(new, step)
        fn, sn = fn >> 1, sn >> 1
    return (old, new) if sn == 0 else None
