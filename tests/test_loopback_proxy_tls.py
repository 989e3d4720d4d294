"""A PROXY header below TLS on the control plane (``control.endpoints`` with ``ssl:``)."""

from __future__ import annotations

import json
import socket
import ssl

from twisted.internet import reactor, threads
from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import TestCase

from relayx.net.proxy import Address, encode_v2
from relayx.testing import LocalGateway
from tests.data_certificates import NAME, pair
from tests.guide_peer import DEADLINE

CLIENT = "198.51.100.7"


class BelowTls(TestCase):
    """The header comes before the first byte of TLS."""

    @inlineCallbacks
    def test_register(self):
        certificate, key = pair()
        endpoint = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        local = LocalGateway(
            reactor,
            control={"endpoints": (endpoint,)},
            proxy_protocol={"trusted": ("127.77.0.1",)},
        )
        local.start()
        self.addCleanup(local.stop)
        address = local.service.control_addresses[0]
        header = encode_v2(Address(CLIENT, 40312), Address("203.0.113.1", 5556))
        for source, first, seen in (
            ("127.77.0.1", header, CLIENT),
            ("127.0.0.1", b"", "127.0.0.1"),
        ):
            addresses = yield threads.deferToThread(
                self.registered, (address.host, address.port), source, first, local
            )
            self.assertIn(seen, addresses)

    def registered(
        self, address: tuple[str, int], source: str, first: bytes, local: LocalGateway
    ) -> set[str]:
        """Register; the addresses of all clients then."""
        plain = socket.create_connection(address, DEADLINE, source_address=(source, 0))
        plain.sendall(first)
        context = ssl.create_default_context(cafile=str(pair()[0]))
        with context.wrap_socket(plain, server_hostname=NAME) as client:
            asked = {"role": "FE", "secret": local.gateway.secret}
            client.sendall(json.dumps({"type": "register", "payload": asked}).encode())
            answered = b""
            while answered.count(b"\n") < 3:
                answered += client.recv(65536)
            auth = json.loads(answered.splitlines()[0])["payload"]
            self.assertEqual(auth["status"], "ok")
            clients = local.service.switchboard.clients
            return threads.blockingCallFromThread(
                reactor, lambda: {client.address for client in clients()}
            )
