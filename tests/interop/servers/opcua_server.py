"""An OPC UA server we did not write (asyncua), for the interop tests.

Usage: opcua_server.py PORT none|basic256sha256 PKI_DIR [USER:PASSWORD] [--expired]

PORT 0 takes a free one. Prints `ready PORT` when clients may come. Lines on stdin:
    set NAME VALUE     writes a variable
    bad NAME           gives it the status Bad_SensorFailure
    add NAME VALUE     adds a variable of type Double
    quit               ends (so does the end of stdin)
`--expired` makes a certificate that ended yesterday. Every line is answered with `ok` or `error: …`. Certificate and key are kept in PKI_DIR, so that a restarted server is
the same server.
"""

import asyncio
import datetime
import logging
import socket
import sys
from pathlib import Path

from asyncua import Server, ua
from asyncua.server.user_managers import UserManager
from asyncua.crypto.permission_rules import User, UserRole
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMESPACE = "urn:tallystick:test"
APPLICATION_URI = "urn:tallystick:test:server"

VARIABLES = {
    "Temperature": (21.5, ua.VariantType.Double),
    "Pressure": (1.25, ua.VariantType.Float),
    "Count": (7, ua.VariantType.Int32),
    "Total": (5_000_000_000, ua.VariantType.UInt64),
    "Running": (True, ua.VariantType.Boolean),
    "Program": ("O4711", ua.VariantType.String),
    "Curve": ([1.0, 2.0], ua.VariantType.Double),
}


def certificate(pki: Path, days: int) -> tuple[Path, Path]:
    """Makes a self-signed application certificate (OPC UA Part 6 §6.2.2) once; it ends in so many days."""
    certificate_file, key_file = pki / "server.der", pki / "server.pem"
    if certificate_file.exists() and key_file.exists():
        return certificate_file, key_file
    pki.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "asyncua test server")])
    now = datetime.datetime.now(datetime.timezone.utc)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )
    alternative = [x509.UniformResourceIdentifier(APPLICATION_URI), x509.DNSName("localhost")]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=100))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key_file.write_bytes(pem)
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.DER))
    return certificate_file, key_file


class OneUser(UserManager):
    def __init__(self, login: str) -> None:
        self.user, self.password = login.split(":", 1)

    def get_user(self, iserver, username=None, password=None, certificate=None):
        if isinstance(password, bytes):
            password = password.decode()
        if username == self.user and password == self.password:
            return User(role=UserRole.User, name=username)
        return None


def free_port(port: int) -> int:
    if port:
        return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def parse(text: str, kind: ua.VariantType):
    if kind == ua.VariantType.Boolean:
        return text == "true"
    if kind == ua.VariantType.String:
        return text
    if kind in (ua.VariantType.Double, ua.VariantType.Float):
        return float(text)
    return int(text)


class Commands:
    def __init__(self, server: Server, index: int) -> None:
        self.server, self.index, self.nodes = server, index, {}

    async def add(self, name: str, value, kind: ua.VariantType) -> None:
        node_id = ua.NodeId(name, self.index)
        node = await self.server.nodes.objects.add_variable(node_id, name, value, kind)
        self.nodes[name] = (node, kind)

    async def run(self, line: str) -> None:
        word, name, *rest = line.split(" ", 2)
        if word == "add":
            await self.add(name, float(rest[0]), ua.VariantType.Double)
            return
        node, kind = self.nodes[name]
        now = datetime.datetime.now(datetime.timezone.utc)
        if word == "set":
            variant = ua.Variant(parse(rest[0], kind), kind)
            await node.write_value(ua.DataValue(variant, SourceTimestamp=now, ServerTimestamp=now))
        elif word == "bad":
            status = ua.StatusCode(ua.StatusCodes.BadSensorFailure)
            await node.write_value(ua.DataValue(ua.Variant(None), status, SourceTimestamp=now, ServerTimestamp=now))
        else:
            raise ValueError(f"no such command: {word}")


async def obey(commands: Commands) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        if line == "quit":
            return
        try:
            await commands.run(line)
            print("ok", flush=True)
        except Exception as fault:  # told to the test, which decides
            print(f"error: {fault!r}", flush=True)


async def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--expired"]
    port, security, pki = free_port(int(words[0])), words[1], Path(words[2])
    server = Server(user_manager=OneUser(words[3]) if len(words) > 3 else None)
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/tally/server/")
    await server.set_application_uri(APPLICATION_URI)
    if security == "none":
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    else:
        server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
    # Also without a secured channel: clients encrypt their password for it.
    certificate_file, key_file = certificate(pki, -1 if "--expired" in sys.argv else 365)
    await server.load_certificate(str(certificate_file))
    await server.load_private_key(str(key_file))
    commands = Commands(server, await server.register_namespace(NAMESPACE))
    for name, (value, kind) in VARIABLES.items():
        await commands.add(name, value, kind)
    async with server:
        print(f"ready {port}", flush=True)
        await obey(commands)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    asyncio.run(main())
