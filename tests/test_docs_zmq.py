"""The programs in docs/zmq.rst, as they stand there, through a gateway."""

from __future__ import annotations

import re
import sys

from twisted.trial.unittest import SynchronousTestCase

from relayx.cli.__main__ import cli
from tests.live import SECRET, Gateway, live
from tests.zmq_programs import PAGE, PATTERNS, SUFFIXES, Recipe, programs
from tests.zmtp_relay import Recorder

OPEN = {"admission": "open"}


def direct(gateway: Gateway) -> dict[str, str]:
    """A zmq port for each pattern, to which both of its roles connect."""
    return {
        role: f"tcp://{gateway.host}:{port}"
        for roles, port in zip(("push pull", "rep req", "pub sub"), gateway.zmq, strict=False)
        for role in roles.split()
    }


class Languages(Recipe):
    """Each pattern in each language."""

    @live(data=OPEN)
    def test_python(self, gateway: Gateway) -> None:
        self.patterns(direct(gateway), "python")

    @live(data=OPEN)
    def test_c(self, gateway: Gateway) -> None:
        self.patterns(direct(gateway), "c")

    @live(data=OPEN)
    def test_node(self, gateway: Gateway) -> None:
        self.patterns(direct(gateway), "javascript")

    @live(data=OPEN)
    def test_mixed(self, gateway: Gateway) -> None:
        """Any language goes with any other."""
        first, second, expected = PATTERNS["req_rep"]
        self.pair(f"tcp://{gateway.host}:{gateway.zmq[0]}", f"{first}.py", f"{second}.c", expected)


class Sealed(Recipe):
    """With credentials, and with keys."""

    @live(data={"admission": "peer"})
    def test_peer(self, gateway: Gateway) -> None:
        """Commands of the page register the machine, and wait on no port themselves."""
        first, second, expected = PATTERNS["push_pull"]
        page = " ".join(PAGE.read_text().split())
        for words in ("be --zmq 0", "status --watch"):
            self.assertIn(f"``relayx {words}``", page)
            self.start(
                [sys.executable, "-c", "from relayx.cli.__main__ import main; main()"],
                *words.split(), RELAYX_GATEWAY=gateway.host, RELAYX_SECRET=SECRET,
            )  # fmt: skip
        endpoint = f"tcp://{gateway.host}:{gateway.zmq[0]}"
        self.pair(endpoint, f"{first}.py", f"{second}.py", expected)

    @live(data={"admission": "ticket"})
    def test_ticket(self, gateway: Gateway) -> None:
        """The password that the gateway reads is a lease's ticket."""
        gateway.be("worker")
        rep = self.start(self.command("plain_rep.py"), f"tcp://{gateway.host}:{gateway.zmq[0]}")
        asked = self.start(self.command("ticket_req.py"), gateway.host, RELAYX_SECRET=SECRET)
        self.assertEqual(self.printed(asked), ["answer to question"])
        self.assertEqual(self.printed(rep), [])

    @live(data=OPEN)
    def test_curve(self, gateway: Gateway) -> None:
        """The answer comes through the gateway."""
        self._make_keys()
        self.pair(
            f"tcp://{gateway.host}:{gateway.zmq[0]}", "curve_rep.py", "curve_req.py",
            ["answer to sealed question"],
        )  # fmt: skip

    def test_curve_cannot_be_read(self) -> None:
        """What a relay between the two sees has neither question nor answer in it."""
        self._make_keys()
        with Recorder() as relay:
            endpoint = relay.address
            self.pair(endpoint, "curve_rep.py", "curve_req.py", ["answer to sealed question"])
            relay.wait()
        for said in relay.said:
            self.assertTrue(said.startswith(b"\xff"))
            self.assertIn(b"CURVE", said)
            self.assertNotIn(b"question", said)
            self.assertNotIn(b"answer", said)

    def _make_keys(self) -> None:
        """By the page's commands."""
        for line in re.findall(r"^    relayx (keys .* --kid re[pq])$", PAGE.read_text(), re.M):
            words = line.replace("--dir keys", f"--dir {self.folder / 'keys'}").split()
            with self.assertRaises(SystemExit) as ended:
                cli(words)
            self.assertIn(ended.exception.code, (0, None))
        self.assertEqual(len(list((self.folder / "keys").glob("*.curve-pub"))), 2)


class Page(SynchronousTestCase):
    """What the page has."""

    def test_complete(self) -> None:
        """Six programs in each of three languages, and those with credentials and keys."""
        names = {
            f"{role}.{suffix}"
            for role in ("push", "pull", "req", "rep", "pub", "sub")
            for suffix in SUFFIXES.values()
        }
        more = {"ticket_req.py", "plain_rep.py", "curve_rep.py", "curve_req.py"}
        self.assertEqual(set(programs()), names | more)

    def test_example(self) -> None:
        """The example of a high-water mark is what its formula gives."""
        memory, peers, each, result = re.search(
            r"(\d+) / \((\d+) x (\d+)\) = (\d+)", PAGE.read_text()
        ).groups()
        self.assertEqual(int(memory), 2 << 30)
        self.assertEqual(int(memory) // (int(peers) * int(each)), int(result))
        self.assertEqual((int(peers), int(each)), (16 + 16, 100_000 + 64))
