"""A time-stamp token (RFC 3161) read and checked: DER by hand, certificates and signatures by cryptography. The numbers in the comments
are those of docs/formats/verifying.md, *A time-stamp*."""

import hashlib
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from .formats import Fault, encode, need, sha256

SIGNED_DATA, TST_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
CONTENT_TYPE, MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
CERTIFICATE_V2, CERTIFICATE_V1 = "1.2.840.113549.1.9.16.2.47", "1.2.840.113549.1.9.16.2.12"
DIGESTS = {"2.16.840.1.101.3.4.2.1": "sha256", "2.16.840.1.101.3.4.2.2": "sha384", "2.16.840.1.101.3.4.2.3": "sha512"}
SIGNATURES = {
    "1.2.840.10045.4.3.2": ("ec", "sha256"), "1.2.840.10045.4.3.3": ("ec", "sha384"), "1.2.840.10045.4.3.4": ("ec", "sha512"),
    "1.2.840.113549.1.1.11": ("rsa", "sha256"), "1.2.840.113549.1.1.12": ("rsa", "sha384"), "1.2.840.113549.1.1.13": ("rsa", "sha512"),
    "1.2.840.113549.1.1.1": ("rsa", None),
}  # fmt: skip
HASHES = {"sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}
TIME_STAMPING = x509.ExtendedKeyUsageOID.TIME_STAMPING
DER, DEPTH_MAX = Encoding.DER, 6


class Der:
    """One element: tag, content, and all its bytes."""

    def __init__(self, data, at=0):
        need(at + 2 <= len(data), "the token is cut off")
        self.tag, length, start = data[at], data[at + 1], at + 2
        if length >= 0x80:
            count = length & 0x7F
            need(0 < count <= 4 and start + count <= len(data), "a length in the token is none")
            length = int.from_bytes(data[start : start + count], "big")
            need(length >= 0x80 and data[start] != 0, "a length in the token is not DER")
            start += count
        self.end = start + length
        need(self.end <= len(data), "the token is cut off")
        self.content, self.bytes = data[start : self.end], data[at : self.end]

    def parts(self):
        found, at = [], 0
        while at < len(self.content):
            found.append(Der(self.content, at))
            at = found[-1].end
        return found

    def oid(self):
        need(self.tag == 6 and self.content, "no object identifier where one should be")
        numbers, value = [], 0
        for byte in self.content:
            value = value << 7 | byte & 0x7F
            if not byte & 0x80:
                numbers.append(value)
                value = 0
        first = min(numbers[0] // 40, 2)
        return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))

    def integer(self):
        need(self.tag in (2, 0x80, 0x81) and self.content, "no integer where one should be")
        return int.from_bytes(self.content, "big", signed=True)


def whole(data):
    element = Der(data)
    need(element.end == len(data), "something behind the token")
    return element


def without(file):
    """The bytes of the file without its time-stamp."""
    return encode({name: value for name, value in file.items() if name != "timestamp"})


def check(file, authorities=None):
    """Checks 1 to 8; what the link shows."""
    given = file["timestamp"]
    need(sha256(given["token"]) == given["digest"], "the token is not the one whose digest stands beside it")  # 1
    try:
        return checked(given["token"], sha256(without(file)), authorities)
    except (ValueError, IndexError, TypeError, UnsupportedAlgorithm) as fault:
        raise Fault(f"the token is not what RFC 3161 says: {fault}") from fault


def checked(token, imprint, authorities):
    content_type, wrapped = whole(token).parts()  # 2
    need(content_type.oid() == SIGNED_DATA, "the token is no SignedData")
    signed = whole(wrapped.content).parts()
    info_type, wrapped = signed[2].parts()
    need(info_type.oid() == TST_INFO, "the token is not around a TSTInfo")
    info = whole(whole(wrapped.content).content)
    certificates = [x509.load_der_x509_certificate(one.bytes) for part in signed[3:] if part.tag == 0xA0 for one in part.parts()]
    signers = signed[-1].parts()
    need(signed[-1].tag == 0x31 and len(signers) == 1, "not signed by exactly one")
    at, accuracy, tsa = read_info(info, imprint)
    certificate = signature(signers[0].parts(), info.bytes, certificates)
    if tsa is not None:
        need(tsa == certificate.subject.public_bytes(), "the token names somebody else than its certificate")  # 8
    name = ", ".join(f"{part.rfc4514_attribute_name}={part.value}" for part in reversed(list(certificate.subject)))
    said = f"the file was there at {at.strftime('%Y-%m-%dT%H:%M:%S.%f')}Z ({accuracy}), by {name}"
    if authorities is None:
        return f"present, its authority was not checked (give --tsa-ca): {said}"
    vouched(certificate, certificates, authorities, at)  # 7
    return said


def read_info(info, imprint):
    parts = info.parts()
    need(parts[0].integer() == 1, "another version of TSTInfo")
    algorithm, digest = parts[2].parts()
    need(algorithm.parts()[0].oid() == "2.16.840.1.101.3.4.2.1", "the digest of the file is not SHA-256")  # 3
    need(digest.content == imprint, "the token is about another digest than that of this file")
    need(parts[4].tag == 0x18, "the token has no time")
    text = parts[4].content.decode("ascii").removesuffix("Z")
    at = datetime.strptime(text, "%Y%m%d%H%M%S.%f" if "." in text else "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    accuracy, tsa = "accuracy not said", None
    for part in parts[5:]:
        if part.tag == 0x30:
            scale = {2: 10**6, 0x80: 10**3, 0x81: 1}
            micros = sum(scale[one.tag] * one.integer() for one in part.parts())
            accuracy = f"± {timedelta(microseconds=micros).total_seconds():.6f}".rstrip("0").rstrip(".") + " s"
        if part.tag == 0xA0 and (names := whole(part.content)).tag == 0xA4:
            tsa = whole(names.content).bytes
        if part.tag == 0xA1:
            critical = [len(one.parts()) == 3 for one in part.parts()]
            need(not any(critical), "the token has a critical extension that this program does not know")
    return at, accuracy, tsa


def signature(signer, info, certificates):
    """Checks 4 to 6; the signer's certificate."""
    digest = DIGESTS.get(signer[2].parts()[0].oid())
    need(digest, "a digest that does not count")
    need(signer[3].tag == 0xA0, "the token has no signed attributes")
    found = {}
    for attribute in signer[3].parts():
        kind, values = attribute.parts()
        need(kind.oid() not in found and len(values.parts()) == 1, "a signed attribute stands there twice")
        found[kind.oid()] = values.parts()[0]
    need(CONTENT_TYPE in found and found[CONTENT_TYPE].oid() == TST_INFO, "its content-type is not TSTInfo")  # 4
    claimed = found.get(MESSAGE_DIGEST)
    need(claimed and claimed.content == hashlib.new(digest, info).digest(), "the digest of the TSTInfo is not the one that was signed")
    certificate = named(found, signer[1], certificates)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    need(usage.critical and list(usage.value) == [TIME_STAMPING], "the certificate is not for time-stamping alone")  # 5
    kind, hashed = SIGNATURES.get(signer[4].parts()[0].oid(), (None, None))
    need(kind and hashed in (None, digest), "a signature algorithm that does not count")
    # What is signed is the SET OF (RFC 5652 §5.4).
    verify(certificate.public_key(), kind, digest, signer[5].content, b"\x31" + signer[3].bytes[1:])  # 6
    return certificate


def named(found, sid, certificates):
    attribute, v2 = found.get(CERTIFICATE_V2), True
    if attribute is None:
        attribute, v2 = found.get(CERTIFICATE_V1), False
    need(attribute, "the token names no certificate")
    first = attribute.parts()[0].parts()[0].parts()
    digest, algorithm = first[0], "sha256" if v2 else "sha1"
    if first[0].tag == 0x30:
        algorithm, digest = DIGESTS.get(first[0].parts()[0].oid()), first[1]
    need(algorithm, "a digest that does not count")
    fits = [one for one in certificates if hashlib.new(algorithm, one.public_bytes(DER)).digest() == digest.content]
    need(fits, "the certificate that it names is not in the token")
    certificate = fits[0]
    if sid.tag == 0x30:
        issuer, serial = sid.parts()
        is_meant = issuer.bytes == certificate.issuer.public_bytes() and serial.integer() == certificate.serial_number
    else:
        key = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        is_meant = key.value.digest == sid.content
    need(is_meant, "two names for the signer, of two certificates")
    return certificate


def verify(key, kind, digest, signed, message):
    try:
        if kind == "ec" and isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1)):
            return key.verify(signed, message, ec.ECDSA(HASHES[digest]()))
        if kind == "rsa" and isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
            return key.verify(signed, message, padding.PKCS1v15(), HASHES[digest]())
    except InvalidSignature as fault:
        raise Fault("the authority's signature does not hold") from fault
    raise Fault("a key that does not count")


def vouched(certificate, others, authorities, at):
    """A path to an authority that the reader knows, every certificate valid at the token's time."""
    known = {one.public_bytes(DER) for one in authorities}
    for _ in range(DEPTH_MAX):
        need(certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc, "a certificate was not valid at that time")
        if certificate.public_bytes(DER) in known:
            return
        above = [one for one in [*authorities, *others] if one is not certificate and issued(certificate, one)]
        need(above, "the authority is not one you trust")
        certificate = above[0]
    raise Fault("the authority is not one you trust: too many certificates between")


def issued(certificate, by):
    try:
        certificate.verify_directly_issued_by(by)
        return by.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
