"""The commands over data ports that speak TLS (``--data-tls``), and a gateway that wants it."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.data_certificates import NAME, data_tls, pair
from tests.guide_peer import DEADLINE
from tests.live import Gateway, live
from tests.relayx_process import relayx

MIB = 1024 * 1024


def options() -> tuple[str, ...]:
    """What verifies the gateway's certificate."""
    return ("--data-tls", "--ca", str(pair()[0]), "--server-name", NAME)


class SessionTests(TestCase):
    """Sessions of the commands' own."""

    @live(data={"admission": "ticket", "tls": data_tls(required=True)})
    def test_send_and_recv(self, gateway: Gateway) -> None:
        """A file, both ends over TLS."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        data = random.Random(5).randbytes(3 * MIB)
        (folder / "from").write_bytes(data)
        at = {"gateway": gateway.host, "cwd": str(folder)}
        with relayx("recv", *options(), "to", **at) as receiver:
            receiver.line("waiting at")
            with relayx("send", *options(), "from", **at) as sender:
                self.assertEqual((sender.ended(), receiver.ended()), (0, 0), sender.stderr)
        self.assertEqual((folder / "to").read_bytes(), data)

    @live(data={"tls": data_tls()})
    def test_either_end(self, gateway: Gateway) -> None:
        """A plain FE with a BE over TLS, and the other way round."""
        for be_options, fe_options in ((options(), ()), ((), options())):
            with (
                relayx("be", *be_options, "--echo", gateway=gateway.host) as be,
                relayx("fe", *fe_options, "--listen", "0", gateway=gateway.host) as fe,
            ):
                host, _, port = fe.line("listening on ").rpartition(" ")[2].rpartition(":")
                with socket.create_connection((host, int(port)), DEADLINE) as connection:
                    connection.sendall(b"echo")
                    self.assertEqual(connection.recv(4, socket.MSG_WAITALL), b"echo")
                    connection.shutdown(socket.SHUT_WR)
                    self.assertEqual(connection.recv(1), b"")
                self.assertEqual((be.interrupted(), fe.interrupted()), (0, 0))

    @live(data={"tls": data_tls(required=True)})
    def test_refused(self, gateway: Gateway) -> None:
        """Without TLS where it is required, and with another's name: why, and it tries on."""
        wrong = (*options()[:-1], "another.example")
        for how, expected in (((), "(data.tls.required)"), (wrong, "not for another.example")):
            with relayx("be", "--echo", *how, gateway=gateway.host) as be:
                be.line(expected)
                self.assertEqual(be.interrupted(), 0)
                if not how:
                    self.assertEqual(be.stderr.count(expected), 1)
