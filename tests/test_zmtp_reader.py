"""Greetings, commands, frames and limits of ZMTP (RFC 23, 24, 25 and 37)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from relayx.core.errors import RelayError
from relayx.zmtp import (
    Command,
    Credentials,
    Event,
    Failed,
    Fault,
    Greeting,
    Message,
    OldVersion,
    Reader,
    Ready,
    ZmtpError,
    error_command,
    greeting_bytes,
)
from relayx.zmtp.reader import MAX_HANDSHAKE_COMMAND
from tests.common import check_cuts

NULL = Greeting((3, 1), "NULL", False)


def command(body: bytes) -> bytes:
    return bytes([4, len(body)]) + body


def long_frame(flags: int, size: int, content: bytes = b"") -> bytes:
    return bytes([flags | 2]) + size.to_bytes(8, "big") + content


def metadata(*properties: tuple[bytes, bytes]) -> bytes:
    return b"".join(
        bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value
        for name, value in properties
    )


def ready_command(*properties: tuple[bytes, bytes]) -> bytes:
    return command(b"\x05READY" + metadata(*properties))


READY = ready_command((b"Socket-Type", b"PAIR"))
PAIR = Ready("PAIR", b"", (("Socket-Type", b"PAIR"),))
BEGUN = greeting_bytes() + READY


def read(pieces: Iterable[bytes], max_message: int | None = None) -> list[Event | str]:
    """Everything that a reader tells, and what is wrong at last."""
    reader, told = Reader(max_message=max_message), []
    for piece in pieces:
        try:
            told += reader.feed(piece)
        except ZmtpError as error:
            return [*told, *error.events, error.text]
    return told


class Case(SynchronousTestCase):
    def check(self, stream: bytes, *told: Event | str) -> None:
        check_cuts(self, read, stream, list(told))


class Greetings(Case):
    def test_the_bytes(self) -> None:
        """As the RFC draws them, 64 altogether."""
        sent = greeting_bytes("PLAIN", as_server=True)
        self.assertEqual(
            sent.hex(), "ff00000000000000017f0301504c41494e" + "00" * 15 + "01" + "00" * 31
        )
        self.assertEqual(len(sent), 64)

    def test_each_mechanism_and_version(self) -> None:
        for mechanism in ("NULL", "PLAIN", "CURVE"):
            for minor in (0, 1, 7):
                sent = greeting_bytes(mechanism, minor=minor)
                self.check(sent, Greeting((3, minor), mechanism, False))
        self.check(greeting_bytes("CURVE", as_server=True), Greeting((3, 1), "CURVE", True))

    def test_padding_and_filler_do_not_matter(self) -> None:
        padded = b"\xff" + b"\xaaRANDOM\x01" + b"\x7f" + greeting_bytes()[10:33] + b"\x55" * 31
        self.check(padded, NULL)

    def test_a_later_major_version(self) -> None:
        later = bytearray(greeting_bytes())
        later[10:12] = b"\x04\x02"
        self.check(bytes(later), Greeting((4, 2), "NULL", False))

    def test_no_zmtp(self) -> None:
        for first in (b"RLX1HELLO {}\n", b"\x01\x00", b"GET / HTTP/1.1\r\n\r\n"):
            self.check(
                first,
                f"the first byte is 0x{first[0]:02x}; a ZMTP greeting begins with 0xff",
            )
        wrong = b"\xff" + bytes(8) + b"\x01"
        self.check(wrong + bytes(54), "byte 10 of the greeting is 0x01; it is 0x7f in ZMTP")

    def test_old_versions(self) -> None:
        """Known at the eleventh byte, behind which an older peer's greeting differs."""
        signature = greeting_bytes()[:10]
        for sent, version in (
            (signature + b"\x01\x07\x00\x00", "2.0"),
            (signature + b"\x00\x07", "1.0"),
            (signature + b"\x02", "2.x"),
            (b"\xff" + (300).to_bytes(8, "big") + b"\x00" + bytes(299), "1.0"),
        ):
            text = f"the peer speaks ZMTP {version}; 3.0 or later is needed (libzmq 4.0 or later)"
            self.check(sent, text)
            with self.assertRaises(OldVersion) as caught:
                Reader().feed(sent)
            self.assertEqual(caught.exception.version, version)
            self.assertIs(caught.exception.fault, Fault.VERSION)

    def test_mechanisms_that_are_not_known(self) -> None:
        self.check(
            greeting_bytes("GSSAPI"), "the mechanism is GSSAPI; known are NULL, PLAIN, CURVE"
        )
        for wrong in (bytes(20), b"NULL\0x".ljust(20, b"\0"), b"null".ljust(20, b"\0")):
            sent = greeting_bytes()[:12] + wrong
            self.check(sent, "the mechanism in the greeting is not a name padded with zeros")


class Handshakes(Case):
    def test_ready(self) -> None:
        properties = ((b"socket-TYPE", b"REQ"), (b"Identity", b"\x01" * 255), (b"X-a.b+c_d", b""))
        told = tuple((name.decode(), value) for name, value in properties)
        body = b"\x05READY" + metadata(*properties)
        sent = long_frame(4, len(body), body)
        self.check(greeting_bytes() + sent, NULL, Ready("REQ", b"\x01" * 255, told))

    def test_ready_without_a_socket_type(self) -> None:
        self.check(greeting_bytes() + ready_command(), NULL, Ready(""))

    def test_resource(self) -> None:
        sent = ready_command((b"Socket-Type", b"REP"), (b"Resource", b"system/names"))
        (_, ready) = Reader().feed(greeting_bytes() + sent)
        assert isinstance(ready, Ready)
        self.assertEqual(ready.resource, b"system/names")
        self.assertEqual(PAIR.resource, b"")

    def test_metadata_that_is_wrong(self) -> None:
        cut_short = "READY has a property that is cut short or has no proper name"
        for wrong, text in (
            (b"\x0bSocket-Type\x00\x00\x00\x05PAIR", cut_short),
            (b"\x0bSocket", cut_short),
            (b"\x0b", cut_short),
            (b"\x01x\x00\x00\x00", cut_short),
            (b"\x00\x00\x00\x00\x00", cut_short),
            (b"\x02a \x00\x00\x00\x00", cut_short),
            (b"\x01x\xff\xff\xff\xffy", cut_short),
            (metadata((b"a", b""), (b"A", b"")), "READY has the property A twice"),
            (
                metadata((b"Socket-Type", b"push")),
                "READY has a Socket-Type that is not up to 32 capital letters",
            ),
        ):
            self.check(greeting_bytes() + command(b"\x05READY" + wrong), NULL, text)
        body = b"\x05READY" + metadata((b"Identity", bytes(256)))
        sent = greeting_bytes() + long_frame(4, len(body), body)
        self.check(sent, NULL, "READY has an Identity of 256 bytes; 255 is most")

    def test_credentials(self) -> None:
        start, plain = greeting_bytes("PLAIN"), Greeting((3, 1), "PLAIN", False)
        hello = command(b"\x05HELLO\x04f\xc3\xbc1\x03\xff\x00p")
        self.check(start + hello, plain, Credentials("fü1", "\udcff\x00p"))
        self.check(start + command(b"\x05HELLO\x00\x00"), plain, Credentials("", ""))
        text = "HELLO of PLAIN is not a username and a password, each after its length"
        for wrong in (b"", b"\x01", b"\x01a", b"\x01a\x02b", b"\x01a\x01bc", b"\x01a\x01b\x00"):
            self.check(start + command(b"\x05HELLO" + wrong), plain, text)

    def test_a_password_is_not_shown(self) -> None:
        told = Credentials("fe-1", "SECRET")
        self.assertNotIn("SECRET", repr(told))
        self.assertNotIn("SECRET", str(told.__rich_repr__()))
        self.assertIn("fe-1", repr(told))

    def test_error(self) -> None:
        for mechanism in ("NULL", "PLAIN", "CURVE"):
            greeting = Greeting((3, 1), mechanism, False)
            sent = greeting_bytes(mechanism) + error_command("no thanks")
            self.check(sent, greeting, Failed("no_thanks"))
            self.check(sent + b"\xff\xffwhat is behind", greeting, Failed("no_thanks"))

    def test_error_as_libzmq_spells_it_with_plain(self) -> None:
        sent = command(b"^RROR\x03400")
        self.check(greeting_bytes("PLAIN") + sent, Greeting((3, 1), "PLAIN", False), Failed("400"))
        text = "a command without a name; one has a name of 1 to 255 letters"
        self.check(greeting_bytes() + sent, NULL, text)

    def test_an_error_of_a_peer_is_fit_for_a_log(self) -> None:
        sent = command(b"\x05ERROR\x06a\n\x1b\xff\\b")
        self.check(greeting_bytes() + sent, NULL, Failed("a\\n\\x1b\\xff\\\\b"))

    def test_an_error_that_is_cut_short(self) -> None:
        for wrong in (b"", b"\x02a"):
            sent = greeting_bytes() + command(b"\x05ERROR" + wrong)
            self.check(sent, NULL, "ERROR has a reason that is cut short")

    def test_commands_that_are_out_of_turn(self) -> None:
        """Every command in every state, but the ones that the table of the reader has."""
        names = ("READY", "HELLO", "WELCOME", "INITIATE", "PING", "MESSAGE", "SUBSCRIBE")
        secure = {
            "at the start of its handshake": ("HELLO", "WELCOME"),
            "behind HELLO": ("INITIATE",),
            "behind WELCOME": ("READY",),
        }
        before = {"behind HELLO": b"\x05HELLO\x00\x00", "behind WELCOME": b"\x07WELCOME"}
        states = {"PLAIN": secure, "CURVE": secure}
        states["NULL"] = {"at the start of its handshake": ("READY",)}
        for mechanism, table in states.items():
            for state, legal in table.items():
                start = greeting_bytes(mechanism)
                start += command(before[state]) if state in before else b""
                for name in set(names) - set(legal):
                    told = read([start + command(bytes([len(name)]) + name.encode())])
                    allowed = " or ".join(legal)
                    self.assertEqual(
                        told[-1],
                        f"{name} {state} with {mechanism}; allowed there is {allowed} or ERROR",
                    )

    def test_garbage_behind_the_greeting(self) -> None:
        start = greeting_bytes()
        self.check(start + b"GARBAGE", NULL, "a frame with flags 0x47; allowed are 0 to 3, 4 and 6")
        message = "a message at the start of its handshake; a command is allowed there alone"
        self.check(start + b"\x00\x02hi", NULL, message)
        for body in (b"", b"\x00", b"\x05REA", b"\x05RE-DY"):
            text = "a command without a name; one has a name of 1 to 255 letters"
            self.check(start + command(body), NULL, text)

    def test_a_command_over_the_limit(self) -> None:
        """Told by its header, so that nobody makes the reader hold more."""
        sent = greeting_bytes() + long_frame(4, MAX_HANDSHAKE_COMMAND + 1)
        self.check(sent, NULL, "a command of 65537 bytes in the handshake; 65536 is most")
        body = b"\x05READY" + metadata((b"X-long", b"x" * (MAX_HANDSHAKE_COMMAND - 17)))
        reader = Reader()
        told = reader.feed(greeting_bytes() + long_frame(4, len(body), body))
        self.assertEqual(len(body), MAX_HANDSHAKE_COMMAND)
        self.assertEqual(len(told), 2)

    def test_where_it_stops(self) -> None:
        reader = Reader()
        reader.feed(BEGUN + b"\x00\x02hi")
        self.assertEqual(reader.stops, [64, len(BEGUN)])

    def test_the_handshake_alone(self) -> None:
        """What is behind it is let through, whatever it is."""
        for pieces in ([BEGUN + b"\xff\xff"], [BEGUN, b"\xff\xff"], [BEGUN[:-1], BEGUN[-1:], b"?"]):
            reader = Reader(handshake_only=True)
            told = [event for piece in pieces for event in reader.feed(piece)]
            self.assertEqual(told, [NULL, PAIR])
            self.assertEqual(reader.stops[-1], len(BEGUN))
            self.assertEqual(reader.messages, 0)


class TrafficOf(Case):
    def test_commands(self) -> None:
        topic = b"\x09SUBSCRIBE" + b"t" * 70000
        self.check(
            BEGUN
            + command(b"\x04PING\x00\x00ctx")
            + command(b"\x06CANCELt")
            + command(b"\x04JOINg"),
            NULL,
            PAIR,
            Command("PING"),
            Command("CANCEL"),
            Command("JOIN"),
        )
        told = read([BEGUN, long_frame(4, len(topic), topic[:3]), topic[3:], b"\x00\x01x"])
        self.assertEqual(told, [NULL, PAIR, Command("SUBSCRIBE"), Message(1, 1)])

    def test_a_late_error(self) -> None:
        self.check(
            BEGUN + error_command("late") + b"\x00\x00", NULL, PAIR, Failed("late"), Message(1, 0)
        )
        reason = "r" * 255
        self.check(BEGUN + error_command(reason), NULL, PAIR, Failed(reason))

    def test_the_longest_name(self) -> None:
        name = b"N" * 255
        body = b"\xff" + name + b"rest"
        self.check(BEGUN + long_frame(4, len(body), body), NULL, PAIR, Command(name.decode()))

    def test_message_commands_of_curve(self) -> None:
        """The RFC has them in commands, libzmq in messages; either is a message."""
        start = greeting_bytes("CURVE") + command(b"\x07WELCOME!") + command(b"\x05READY!")
        begun = (Greeting((3, 1), "CURVE", False), Command("WELCOME"), Ready(""))
        sealed = b"\x07MESSAGE" + bytes(30)
        self.check(
            start + command(sealed) + b"\x00&" + sealed, *begun, Message(1, 38), Message(1, 38)
        )
        self.check(BEGUN + command(sealed), NULL, PAIR, Command("MESSAGE"))
        reader = Reader()
        reader.feed(start)
        self.assertEqual(reader.count(command(sealed) * 3), 3)
        self.assertEqual(reader.message_bytes, 3 * 38)

    def test_frames_that_are_none(self) -> None:
        for flags in (5, 7, 8, 0x40, 0xFF):
            self.check(
                BEGUN + b"\x00\x01x" + bytes([flags]),
                NULL,
                PAIR,
                Message(1, 1),
                f"a frame with flags 0x{flags:02x}; allowed are 0 to 3, 4 and 6",
            )
        self.check(
            BEGUN + b"\x01\x01x" + command(b"\x04PING"),
            NULL,
            PAIR,
            "a command between the frames of a message, where none is allowed",
        )
        self.check(
            BEGUN + long_frame(0, 2**63),
            NULL,
            PAIR,
            "a frame of 9223372036854775808 bytes; 9223372036854775807 is most",
        )

    def test_after_an_error_it_is_the_same_again(self) -> None:
        reader = Reader()
        with self.assertRaises(ZmtpError) as first:
            reader.feed(BEGUN + b"\x00\x01x\xff")
        self.assertEqual(list(first.exception.events), [NULL, PAIR, Message(1, 1)])
        self.assertIsInstance(first.exception, RelayError)
        for again in (reader.feed, reader.count):
            with self.assertRaises(ZmtpError) as second:
                again(b"\x00\x01x")
            self.assertEqual(second.exception.text, first.exception.text)
            self.assertEqual(list(second.exception.events), [])
        self.assertEqual(reader.messages, 1)

    def test_headers_alike_in_all_but_one_byte(self) -> None:
        """Each byte of a header counts where a run of equal frames ends."""
        frame = long_frame(0, 300, b"f" * 300)
        for at, other in ((8, 301), (7, 300 + (1 << 8)), (6, 300 + (1 << 16))):
            odd = long_frame(0, other, bytes(other))
            stream = frame * 50 + odd + frame * 50
            told = [NULL, PAIR, *[Message(1, 300)] * 50, Message(1, other), *[Message(1, 300)] * 50]
            self.assertEqual(read([BEGUN + stream]), told, at)
        for at in range(1, 6):
            size = 300 + (1 << 8 * (8 - at))
            reader = Reader()
            reader.feed(BEGUN)
            self.assertEqual(reader.count(frame * 50 + long_frame(0, size, frame * 50)), 50, at)
        more = b"\x03" + frame[1:]
        told = [NULL, PAIR, *[Message(1, 300)] * 50, Message(2, 600), *[Message(1, 300)] * 5]
        self.assertEqual(read([BEGUN + frame * 50 + more + frame * 6]), told)


class Limits(Case):
    def check_limit(self, stream: bytes, *told: Event | str) -> None:
        check_cuts(self, lambda pieces: read(pieces, 1000), BEGUN + stream, [NULL, PAIR, *told])

    def test_up_to_it(self) -> None:
        self.check_limit(long_frame(0, 1000, bytes(1000)) * 2, *[Message(1, 1000)] * 2)
        parts = long_frame(1, 400, bytes(400)) * 2 + b"\x00\xc8" + bytes(200)
        self.check_limit(parts, Message(3, 1000))

    def test_over_it_by_the_header(self) -> None:
        over = "a message of 1001 bytes; 1000 is most"
        self.check_limit(b"\x00\x01x" + long_frame(0, 1001), Message(1, 1), over)
        self.check_limit(long_frame(1, 1001), "a message of 1001 bytes or more; 1000 is most")
        self.check_limit(long_frame(1, 999, bytes(999)) + b"\x00\x02", over)
        self.check_limit(long_frame(4, 1001), "a command of 1001 bytes; 1000 is most")

    def test_over_it_with_all_its_content(self) -> None:
        """However much of it is there, and whatever came before, it is not counted."""
        over = "a message of 1001 bytes; 1000 is most"
        for told in ([], [Message(1, 1000)] * 8):
            stream = BEGUN + long_frame(0, 1000, bytes(1000)) * len(told)
            stream += long_frame(0, 1001, bytes(1001)) + b"\x00\x00"
            self.assertEqual(read([stream], 1000), [NULL, PAIR, *told, over])
        parts = long_frame(1, 600, bytes(600)) + long_frame(0, 401, bytes(401)) + b"\x00\x00"
        self.assertEqual(read([BEGUN + parts], 1000), [NULL, PAIR, over])
        self.assertEqual(read([BEGUN, parts], 1000), [NULL, PAIR, over])

    def test_what_kind_it_is(self) -> None:
        reader = Reader(max_message=10)
        reader.feed(BEGUN)
        with self.assertRaises(ZmtpError) as caught:
            reader.count(b"\x00\x0b")
        self.assertIs(caught.exception.fault, Fault.TOO_BIG)

    def test_the_handshake_has_its_own(self) -> None:
        self.assertEqual(read([BEGUN], 1), [NULL, PAIR])


class Cost(SynchronousTestCase):
    def test_content_is_not_kept(self) -> None:
        """64 MiB in segments of 64 KiB, in one message, and cut anywhere in a header."""
        segment, reader = bytes(65536), Reader(max_message=2**26)
        reader.feed(BEGUN)
        tracemalloc.start()
        try:
            told: list[Event] = []
            for _ in range(2):
                told += reader.feed(long_frame(0, 2**26)[:5])
                told += reader.feed(long_frame(0, 2**26)[5:])
                for _ in range(1024):
                    told += reader.feed(segment)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertEqual(told, [Message(1, 2**26)] * 2)
        self.assertLess(peak, 20_000)

    def test_a_large_segment_is_not_copied(self) -> None:
        """A frame's header that is cut costs its own bytes, not those of the segment behind it."""
        frame = long_frame(0, 2**20, bytes(2**20))
        reader = Reader()
        reader.feed(BEGUN + frame[:4])
        rest = memoryview(frame)[4:]
        tracemalloc.start()
        try:
            self.assertEqual(reader.feed(rest), [Message(1, 2**20)])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 20_000)


class ErrorCommands(Case):
    def test_it_is_what_the_rfc_has(self) -> None:
        self.assertEqual(error_command("400"), b"\x04\x0a\x05ERROR\x03400")
        self.assertEqual(error_command("a b\n\u00e9"), b"\x04\x0c\x05ERROR\x05a_b??")
        self.assertEqual(error_command(""), b"\x04\x07\x05ERROR\x00")

    def test_short_and_long(self) -> None:
        for size in (247, 248, 249, 255, 256, 1000):
            sent = error_command("r" * size)
            self.check(greeting_bytes() + sent, NULL, Failed("r" * min(size, 255)))
            self.assertEqual(sent[0], 6 if min(size, 255) + 7 > 255 else 4)
