"""The commands under admission ``ticket`` (contract section 6)."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE
from tests.live import SECRET, Gateway, live
from tests.relayx_process import relayx, run_relayx

MIB = 1024 * 1024


class TicketTests(TestCase):
    """A BE says its id in HELLO and an FE its ticket, so that nothing else is to be set."""

    @live(data={"admission": "ticket"}, log={"level": "debug", "stream": "all"})
    def test_be_and_fe(self, gateway: Gateway) -> None:
        """An echo behind a local port; the tickets show nowhere, at -vv either."""
        witness = gateway.fe("witness")
        serve = ("be", "-vv", "--service", "web", "--echo")
        listen = ("fe", "-vv", "--service", "web", "--listen", "0")
        with (
            relayx(*serve, gateway=gateway.host) as be,
            relayx(*listen, gateway=gateway.host) as fe,
        ):
            host, _, port = fe.line("listening on ").rpartition(" ")[2].rpartition(":")
            with socket.create_connection((host, int(port)), DEADLINE) as connection:
                connection.sendall(b"echo")
                self.assertEqual(connection.recv(4, socket.MSG_WAITALL), b"echo")
                tickets = [lease.ticket for lease in gateway.service.switchboard.board.leases]
                connection.shutdown(socket.SHUT_WR)
                self.assertEqual(connection.recv(1), b"")
            witness.find("log", lambda line: "session pair_" in str(line))
            self.assertEqual((be.interrupted(), fe.interrupted()), (0, 0))
        self.assertEqual(len(tickets), 1)
        for written in (be.stderr, fe.stderr, str(witness.log)):
            self.assertNotIn(tickets[0], written)

    @live(data={"admission": "ticket"})
    def test_send_and_recv(self, gateway: Gateway) -> None:
        """A file from one to the other."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        data = random.Random(3).randbytes(3 * MIB)
        (folder / "from").write_bytes(data)
        at = {"gateway": gateway.host, "cwd": str(folder)}
        with relayx("recv", "to", **at) as receiver:
            receiver.line("waiting at")
            with relayx("send", "from", **at) as sender:
                self.assertEqual((sender.ended(), receiver.ended()), (0, 0), sender.stderr)
        self.assertEqual((folder / "to").read_bytes(), data)


class LimitedTests(TestCase):
    """What a command says where it is limited."""

    @live(limits={"failures_per_minute": 1})
    def test_refused_for_a_while(self, gateway: Gateway) -> None:
        """Exit status 1, the code, and how long it goes on."""
        asked = ("ping", "--count", "1", "--connect-timeout", "4s")
        wrong = run_relayx(*asked, gateway=gateway.host, RELAYX_SECRET="wrong")
        self.assertEqual(wrong.ended(), 1)
        self.assertIn("AUTH_FAILED", wrong.stderr)
        limited = run_relayx(*asked, gateway=gateway.host)
        self.assertEqual(limited.ended(), 1)
        self.assertRegex(limited.stderr, r"RATE_LIMITED: .*another \d+ s")
        self.assertNotIn(SECRET, limited.stderr)

    @live(clients=[{"match": "reader", "roles": ("BE",)}])
    def test_role(self, gateway: Gateway) -> None:
        """What a client may not be."""
        asked = ("ping", "--client-id", "reader")
        refused = run_relayx(*asked, gateway=gateway.host)
        self.assertEqual(refused.ended(), 1)
        self.assertIn("allowed: BE", refused.stderr)
