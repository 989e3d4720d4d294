"""TLS on the control endpoint, by a strports string (contract section 1, control.endpoints)."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor, threads
from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import TestCase

from relayx.testing import LocalGateway
from tests.guide_peer import DEADLINE

NAME = "gateway.example"


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for NAME and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir()
    key_file, certificate_file = directory / "key.pem", directory / "cert.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file


class Tls(TestCase):
    """A client that speaks TLS registers, is refused, and is told what was wrong."""

    timeout = 30

    @inlineCallbacks
    def test_register(self):
        key, self.certificate = make_certificate(Path(self.mktemp()))
        endpoint = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={self.certificate}"
        local = LocalGateway(reactor, control={"endpoints": (endpoint,)})
        local.start()
        self.addCleanup(local.stop)
        self.address = local.service.control_addresses[0]
        self.secret = local.gateway.secret
        yield threads.deferToThread(self.scenario)

    def dial(self) -> ssl.SSLSocket:
        plain = socket.create_connection((self.address.host, self.address.port), DEADLINE)
        context = ssl.create_default_context(cafile=str(self.certificate))
        return context.wrap_socket(plain, server_hostname=NAME)

    def ask(self, said: bytes) -> list[dict]:
        """Everything that is answered until the gateway closes, in order."""
        with self.dial() as client:
            client.sendall(said)
            answered = b""
            while data := client.recv(65536):
                answered += data
        return [json.loads(line) for line in answered.splitlines()]

    def scenario(self) -> None:
        register = {"type": "register", "payload": {"role": "FE", "secret": self.secret}}
        with self.dial() as client:
            client.sendall(json.dumps(register).encode())
            answered = b""
            while answered.count(b"\n") < 3:
                answered += client.recv(65536)
            kinds = [json.loads(line)["type"] for line in answered.splitlines()]
            self.assertEqual(kinds, ["auth", "port_alloc", "port_state"])
            client.sendall(b'{"type":"ping","payload":{"c_send":7}}')
            self.assertEqual(json.loads(client.recv(65536))["payload"]["c_send"], 7)
        register["payload"]["secret"] = "wrong"
        (auth,) = self.ask(json.dumps(register).encode())
        self.assertEqual(auth["payload"]["error_code"], "AUTH_FAILED")
        (error,) = self.ask(b"garbage")
        self.assertEqual(error["payload"]["error_code"], "INVALID_MESSAGE")
