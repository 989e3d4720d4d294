"""Two directions of a connection: whether they go together, and how one is refused (RFC 37)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relayx.zmtp import (
    PATTERNS,
    Command,
    Failed,
    Fault,
    Greeting,
    Handshake,
    Message,
    OldVersion,
    Reader,
    ZmtpError,
    compatible,
    error_command,
    greeting_bytes,
    incompatibility,
    pattern_of,
)
from relayx.zmtp.sockettypes import PEERS
from tests.fuzzing import examples
from tests.test_zmtp_reader import command, ready_command

TABLE = """
REQ: REP ROUTER
REP: REQ DEALER
DEALER: REP DEALER ROUTER
ROUTER: REQ DEALER ROUTER
PUB: SUB XSUB
XPUB: SUB XSUB
SUB: PUB XPUB
XSUB: PUB XPUB
PUSH: PULL
PULL: PUSH
PAIR: PAIR
CLIENT: SERVER
SERVER: CLIENT
RADIO: DISH
DISH: RADIO
SCATTER: GATHER
GATHER: SCATTER
PEER: PEER
CHANNEL: CHANNEL
"""
"""The rows of RFC 37's table."""


def ready(socket_type: str) -> bytes:
    return ready_command((b"Socket-Type", socket_type.encode()))


class SocketTypes(SynchronousTestCase):
    def test_every_pair(self) -> None:
        legal = {
            (row.partition(": ")[0], other)
            for row in TABLE.split("\n")
            for other in row.partition(": ")[2].split()
        }
        self.assertEqual(len(legal), 29)
        for one in PEERS:
            for other in PEERS:
                self.assertEqual(compatible(one, other), (one, other) in legal, (one, other))
                self.assertEqual(compatible(one, other), compatible(other, one))

    def test_types_that_are_not_known(self) -> None:
        """Not told, or encrypted, goes with any type there is."""
        self.assertTrue(compatible("", ""))
        self.assertTrue(compatible("PUSH", ""))
        self.assertTrue(compatible("", "PUSH"))
        for pair in (("STREAM", "STREAM"), ("STREAM", ""), ("", "STREAM"), ("PUSH", "STREAM")):
            self.assertFalse(compatible(*pair))

    def test_why(self) -> None:
        self.assertEqual(
            incompatibility("PUB", "PULL"), "PUB does not talk to PULL; it does to SUB or XSUB"
        )
        for pair in (("STREAM", ""), ("PUSH", "STREAM")):
            text = incompatibility(*pair)
            self.assertTrue(text.startswith("STREAM is not a socket type; those are REQ, REP,"))


class Joined(SynchronousTestCase):
    def test_null(self) -> None:
        joined = Handshake()
        start = greeting_bytes()
        self.assertEqual(joined.feed_fe(start[:10]), [])
        self.assertEqual(joined.feed_be(start), [Greeting((3, 1), "NULL", False)])
        joined.feed_fe(start[10:] + ready("PUSH"))
        self.assertFalse(joined.done)
        self.assertIsNone(joined.consumed)
        self.assertEqual(joined.socket_types, ("PUSH", ""))
        joined.feed_be(ready("PULL"))
        self.assertTrue(joined.done)
        self.assertEqual(joined.consumed, (64 + len(ready("PUSH")), 64 + len(ready("PULL"))))
        self.assertEqual(joined.socket_types, ("PUSH", "PULL"))
        self.assertEqual(joined.feed_fe(b"\x00\x01x"), [Message(1, 1)])
        self.assertEqual((joined.fe.messages, joined.be.messages), (1, 0))

    def test_messages_right_behind_ready(self) -> None:
        """An FE that knows the BE's READY already sends with its own."""
        joined = Handshake()
        joined.feed_be(greeting_bytes() + ready("PULL"))
        told = joined.feed_fe(greeting_bytes() + ready("PUSH") + b"\x00\x01x")
        self.assertEqual(told[-1], Message(1, 1))
        self.assertEqual(joined.consumed, (64 + len(ready("PUSH")), 64 + len(ready("PULL"))))

    def test_each_legal_and_illegal_pair(self) -> None:
        for one in PEERS:
            for other in PEERS:
                joined = Handshake()
                joined.feed_be(greeting_bytes() + ready(other))
                if other in PEERS[one]:
                    joined.feed_fe(greeting_bytes() + ready(one))
                    self.assertTrue(joined.done)
                    continue
                with self.assertRaises(ZmtpError) as caught:
                    joined.feed_fe(greeting_bytes() + ready(one))
                self.assertIs(caught.exception.fault, Fault.SOCKET_TYPE)
                self.assertEqual(caught.exception.text, incompatibility(one, other))
                self.assertEqual(len(caught.exception.events), 2)
                self.assertFalse(joined.done)

    def test_it_goes_on_being_wrong(self) -> None:
        joined = Handshake()
        joined.feed_be(greeting_bytes() + ready("PULL"))
        for data in (greeting_bytes() + ready("PUB"), b"\x00\x00", b""):
            with self.assertRaises(ZmtpError):
                joined.feed_fe(data)

    def test_curve(self) -> None:
        joined = Handshake()
        joined.feed_fe(greeting_bytes("CURVE") + command(b"\x05HELLOx"))
        joined.feed_be(greeting_bytes("CURVE") + command(b"\x07WELCOMEx"))
        self.assertEqual(len(joined.feed_fe(command(b"\x08INITIATEx"))), 1)
        joined.feed_be(command(b"\x05READYx"))
        self.assertTrue(joined.done)
        self.assertEqual(joined.socket_types, ("", ""))

    def test_two_mechanisms(self) -> None:
        joined = Handshake()
        joined.feed_fe(greeting_bytes("PLAIN"))
        with self.assertRaises(ZmtpError) as caught:
            joined.feed_be(greeting_bytes("CURVE"))
        self.assertIs(caught.exception.fault, Fault.MECHANISM)
        self.assertEqual(
            caught.exception.text,
            "the FE uses PLAIN and the BE CURVE; both have to use one mechanism",
        )

    def test_two_clients_or_servers(self) -> None:
        says = {"client": b"\x05HELLO\x00\x00", "server": b"\x07WELCOME"}
        for part, said in says.items():
            joined = Handshake()
            joined.feed_fe(greeting_bytes("PLAIN") + command(said))
            with self.assertRaises(ZmtpError) as caught:
                joined.feed_be(greeting_bytes("PLAIN") + command(said))
            self.assertEqual(
                caught.exception.text,
                f"both are {part}s of PLAIN; one has to be its server and the other its client",
            )
            self.assertIs(caught.exception.fault, Fault.MECHANISM)
        joined = Handshake()
        joined.feed_fe(greeting_bytes("CURVE", as_server=True))
        with self.assertRaises(ZmtpError) as caught:
            joined.feed_be(greeting_bytes("CURVE", as_server=True))
        self.assertIn("both are servers of CURVE", caught.exception.text)

    def test_as_server_means_nothing_with_null(self) -> None:
        joined = Handshake()
        for feed, socket_type in ((joined.feed_fe, "PAIR"), (joined.feed_be, "PAIR")):
            feed(greeting_bytes(as_server=True) + ready(socket_type))
        self.assertTrue(joined.done)

    def test_an_older_peer_is_known_before_libzmq_falls_back(self) -> None:
        """libzmq sends its type in place of its minor version to whoever is older, not before."""
        joined = Handshake()
        joined.feed_fe(greeting_bytes()[:11])
        with self.assertRaises(OldVersion):
            joined.feed_be(greeting_bytes()[:10] + b"\x01")

    def test_a_side_that_gives_up(self) -> None:
        joined = Handshake()
        joined.feed_fe(greeting_bytes() + ready("PUSH"))
        told = joined.feed_be(greeting_bytes() + error_command("400"))
        self.assertEqual(told[-1], Failed("400"))
        self.assertEqual(joined.be.failed, Failed("400"))
        self.assertFalse(joined.done)


class Refusing(SynchronousTestCase):
    """What is sent makes one legal stream with what was passed on before."""

    def refused(self, joined: Handshake, said: bytes, passed: int) -> None:
        """The FE has been sent `passed` bytes of what the BE said."""
        sent = joined.refusal_to_fe("go away", passed)
        self.assertNotEqual(sent, b"", passed)
        told = Reader().feed(said[:passed] + sent)
        self.assertEqual(told[-1], Failed("go_away"), passed)

    def test_null(self) -> None:
        joined, said = Handshake(), greeting_bytes() + ready("PULL")
        joined.feed_be(said)
        with self.assertRaises(ZmtpError):
            joined.feed_fe(greeting_bytes() + ready("PUB"))
        for passed in range(65):
            self.refused(joined, said, passed)
        for passed in range(65, len(said) + 1):
            self.assertEqual(joined.refusal_to_fe("go away", passed), b"", passed)

    def test_plain(self) -> None:
        joined, welcome = Handshake(), command(b"\x07WELCOME")
        said = greeting_bytes("PLAIN") + welcome
        joined.feed_fe(greeting_bytes("PLAIN") + command(b"\x05HELLO\x01a\x01b"))
        self.assertEqual(joined.feed_be(said)[-1], Command("WELCOME"))
        for passed in range(len(said) + 1):
            if passed <= 64 or passed == len(said):
                self.refused(joined, said, passed)
            else:
                self.assertEqual(joined.refusal_to_fe("go away", passed), b"", passed)

    def test_the_be(self) -> None:
        joined = Handshake()
        joined.feed_be(greeting_bytes("CURVE"))
        sent = joined.refusal_to_be("no", 0)
        self.assertEqual(Reader().feed(sent)[0], Greeting((3, 1), "CURVE", False))
        self.assertEqual(Reader().feed(sent)[1], Failed("no"))

    def test_another_mechanism(self) -> None:
        """Nobody sees a greeting that changes its mind."""
        joined, said = Handshake(), greeting_bytes("CURVE")
        joined.feed_be(said)
        with self.assertRaises(ZmtpError):
            joined.feed_fe(greeting_bytes())
        for passed in range(65):
            sent = joined.refusal_to_fe("no", passed)
            if passed <= 11:
                told = Reader().feed(said[:passed] + sent)
                self.assertEqual(told, [Greeting((3, 1), "NULL", False), Failed("no")])
            elif passed < 64:
                self.assertEqual(sent, b"")

    def test_not_without_the_greeting_of_the_refused(self) -> None:
        joined = Handshake()
        joined.feed_be(greeting_bytes())
        joined.feed_fe(greeting_bytes()[:63])
        self.assertEqual(joined.refusal_to_fe("no", 0), b"")


class Fuzzed(SynchronousTestCase):
    @examples(200)
    @given(st.lists(st.tuples(st.booleans(), st.binary(max_size=80))), st.booleans())
    def test_garbage(self, turns: list[tuple[bool, bytes]], greeted: bool) -> None:
        """Nothing but a ZmtpError, and the same in pieces."""
        told = []
        for size in (1, 1000):
            joined, heard = Handshake(), []
            if greeted:
                joined.feed_fe(greeting_bytes())
                joined.feed_be(greeting_bytes())
            try:
                for of_fe, data in turns:
                    for at in range(0, len(data), size):
                        feed = joined.feed_fe if of_fe else joined.feed_be
                        heard += feed(data[at : at + size])
            except ZmtpError as error:
                heard += [*error.events, error.text]
            told.append(heard)
        self.assertEqual(told[0], told[1])


class Patterns(SynchronousTestCase):
    def test_of_each_pair_that_is_legal(self) -> None:
        """What metrics call them; every pair has one of few names."""
        names = {
            "req_rep": {"REQ REP"},
            "push_pull": {"PUSH PULL"},
            "pair": {"PAIR PAIR"},
            "pub_sub": {"PUB SUB", "PUB XSUB", "XPUB SUB", "XPUB XSUB"},
            "dealer_router": {
                "REQ ROUTER", "DEALER REP", "DEALER DEALER", "DEALER ROUTER", "ROUTER ROUTER",
            },
            "other": {"CLIENT SERVER", "RADIO DISH", "SCATTER GATHER", "PEER PEER",
                      "CHANNEL CHANNEL"},
        }  # fmt: skip
        expected = {}
        for pattern, pairs in names.items():
            for pair in pairs:
                one, other = pair.split()
                expected[one, other] = expected[other, one] = pattern
        found = {
            (one, other): pattern_of(one, other)
            for one, others in PEERS.items()
            for other in others
        }
        self.assertEqual(found, expected)
        self.assertEqual(tuple(names.keys() ^ set(PATTERNS)), ())

    def test_encrypted(self) -> None:
        for pair in (("", ""), ("REQ", ""), ("", "PUB")):
            self.assertEqual(pattern_of(*pair), "other")
