"""What a reader makes of what libzmq really said, however it is cut (``tests/zmtp_record.py``)."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relayx.zmtp import (
    Command,
    Credentials,
    Event,
    Failed,
    Greeting,
    Handshake,
    Message,
    Reader,
    Ready,
    ZmtpError,
)
from tests.common import check_cuts
from tests.fuzzing import examples

SAID: dict[str, list[bytes]] = {
    name: [bytes.fromhex(said) for said in both]
    for name, both in json.loads(
        Path(__file__).with_name("zmtp_recordings.json").read_text()
    ).items()
}

NULL, PLAIN, CURVE = (Greeting((3, 1), name, False) for name in ("NULL", "PLAIN", "CURVE"))
PARTS = [Message(1, 3), Message(3, 301), Message(1, 0), Message(1, 255), Message(1, 256)]
PARTS += [Message(2, 0)]
CREDENTIALS = Credentials("fe-1", "right")
WELCOME, HELLO = Command("WELCOME"), Command("HELLO")
SEALED = 33
"""Bytes that CURVE adds to each frame: name, nonce, box and flags (RFC 25)."""


def ready(socket_type: str, identity: bytes | None = None) -> Ready:
    properties = [("Socket-Type", socket_type.encode())]
    properties += [] if identity is None else [("Identity", identity)]
    return Ready(socket_type, identity or b"", tuple(properties))


def sealed(*sizes: int) -> list[Event]:
    return [Message(1, SEALED + size) for size in sizes]


QUESTIONS, ANSWERS = [Message(2, 10)] * 3, [Message(2, 20)] * 3
SEALED_PARTS = sealed(3, 1, 0, 300, 0, 255, 256, 0, 0)
TOLD: dict[str, tuple[Sequence[Event], Sequence[Event]]] = {
    "push_pull": ([NULL, ready("PUSH"), *PARTS], [NULL, ready("PULL")]),
    "req_rep": ([NULL, ready("REQ", b""), *QUESTIONS], [NULL, ready("REP"), *ANSWERS]),
    "dealer_rep": ([NULL, ready("DEALER", b""), *QUESTIONS], [NULL, ready("REP"), *ANSWERS]),
    "dealer_router": (
        [NULL, ready("DEALER", b"d-1"), Message(1, 5)],
        [NULL, ready("ROUTER", b"r" * 255), Message(2, 1005)],
    ),
    "xpub_sub": (
        [NULL, ready("XPUB"), Message(2, 9)],
        [NULL, ready("SUB"), Command("SUBSCRIBE"), Command("CANCEL")],
    ),
    "pair": (
        [NULL, ready("PAIR"), Message(1, 3), Command("PING"), Command("PING")],
        [NULL, ready("PAIR"), Command("PONG"), Command("PONG"), Message(1, 5)],
    ),
    "plain_push_pull": (
        [PLAIN, CREDENTIALS, ready("PUSH"), *PARTS],
        [PLAIN, WELCOME, ready("PULL")],
    ),
    "plain_req_rep": (
        [PLAIN, CREDENTIALS, ready("REQ", b""), *QUESTIONS],
        [PLAIN, WELCOME, ready("REP"), *ANSWERS],
    ),
    "plain_denied": ([PLAIN, Credentials("fe-1", "wrong")], [PLAIN, Failed("400")]),
    "curve_push_pull": ([CURVE, HELLO, Ready(""), *SEALED_PARTS], [CURVE, WELCOME, Ready("")]),
    "curve_req_rep": (
        [CURVE, HELLO, Ready(""), *sealed(0, 10) * 3],
        [CURVE, WELCOME, Ready(""), *sealed(0, 20) * 3],
    ),
    "mismatch": ([NULL, ready("PUB")], [NULL, ready("PULL")]),
}


def read(pieces: Iterable[bytes]) -> list[Event | str]:
    """Everything that a reader tells, and what is wrong at last."""
    reader, told = Reader(), []
    for piece in pieces:
        try:
            told += reader.feed(piece)
        except ZmtpError as error:
            return [*told, *error.events, str(error)]
    return told


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut at the places, which are taken modulo the length; some pieces may be empty."""
    at = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(at)]


STREAMS = [(name, side) for name in SAID for side in (0, 1)]


class Recorded(SynchronousTestCase):
    """Each recording, which is of libzmq 4.3.5."""

    def test_each_has_its_events(self) -> None:
        self.assertEqual(set(SAID), set(TOLD))

    def test_whole_and_in_pieces(self) -> None:
        for name, side in STREAMS:
            check_cuts(self, read, SAID[name][side], list(TOLD[name][side]))

    def test_with_more_behind(self) -> None:
        """What follows is read as what it is: a message, the start of one, or no frame."""
        for name, side in (("push_pull", 1), ("req_rep", 0), ("plain_req_rep", 0)):
            said, told = SAID[name][side], [*TOLD[name][side]]
            check_cuts(self, read, said + b"\x00\x02hi", [*told, Message(1, 2)])
            check_cuts(self, read, said + b"\x02\x00\x00", told)
            wrong = "a frame with flags 0xff; allowed are 0 to 3, 4 and 6"
            check_cuts(self, read, said + b"\xff", [*told, wrong])

    def test_memoryviews(self) -> None:
        for name, side in STREAMS:
            for size in (1, 7, 4096):
                said = memoryview(SAID[name][side])
                pieces = [said[at : at + size] for at in range(0, len(said), size)]
                self.assertEqual(read(pieces), list(TOLD[name][side]))  # type: ignore[arg-type]

    def test_counts(self) -> None:
        for name, side in STREAMS:
            told = [event for event in TOLD[name][side] if isinstance(event, Message)]
            for size in (1, 5, 4096):
                reader, counted = Reader(), 0
                for at in range(0, len(SAID[name][side]), size):
                    counted += reader.count(SAID[name][side][at : at + size])
                self.assertEqual(counted, len(told))
                self.assertEqual(reader.messages, len(told))
                self.assertEqual(reader.message_bytes, sum(event.bytes for event in told))

    def test_handshakes(self) -> None:
        """Both directions of each, by turns in small pieces, come to the same end."""
        for name, (fe, be) in SAID.items():
            joined = Handshake(handshake_only=True)
            turns = [(joined.feed_fe, fe[at : at + 9], at) for at in range(0, len(fe), 9)]
            turns += [(joined.feed_be, be[at : at + 9], at) for at in range(0, len(be), 9)]
            turns.sort(key=lambda turn: turn[2])
            try:
                for feed, piece, _ in turns:
                    if not joined.done:
                        feed(piece)
            except ZmtpError as error:
                self.assertEqual(name, "mismatch")
                self.assertEqual(str(error), "PUB does not talk to PULL; it does to SUB or XSUB")
                continue
            self.assertEqual(joined.done, name != "plain_denied")
            if joined.done:
                types = [_type_told(events) for events in TOLD[name]]
                self.assertEqual(joined.socket_types, tuple(types))
                self.assertEqual(joined.consumed, (joined.fe.stops[-1], joined.be.stops[-1]))


def _type_told(events: Sequence[Event]) -> str:
    return next(event.socket_type for event in events if isinstance(event, Ready))


class Fuzzed(SynchronousTestCase):
    """Random cuts tell the same, and garbage is never anything but a ZmtpError."""

    @examples(150)
    @given(st.sampled_from(STREAMS), st.lists(st.integers(0, 5000), max_size=12))
    def test_cuts(self, stream: tuple[str, int], places: list[int]) -> None:
        name, side = stream
        self.assertEqual(read(cut(SAID[name][side], places)), list(TOLD[name][side]))

    @examples(150)
    @given(
        st.sampled_from(STREAMS),
        st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4),
        st.lists(st.integers(0, 5000), max_size=12),
    )
    def test_spoilt(
        self, stream: tuple[str, int], wrong: list[tuple[int, int]], places: list[int]
    ) -> None:
        """Whatever a few wrong bytes do, the cut makes no difference."""
        spoilt = bytearray(SAID[stream[0]][stream[1]])
        for at, byte in wrong:
            spoilt[at % len(spoilt)] = byte
        self.assertEqual(read(cut(bytes(spoilt), places)), read([bytes(spoilt)]))

    @examples(150)
    @given(st.sampled_from(STREAMS), st.integers(0, 5000), st.binary(max_size=200))
    def test_garbage_from_somewhere_on(
        self, stream: tuple[str, int], at: int, garbage: bytes
    ) -> None:
        said = SAID[stream[0]][stream[1]]
        bad = said[: at % (len(said) + 1)] + garbage
        self.assertEqual(read(bad[i : i + 1] for i in range(len(bad))), read([bad]))

    @examples(100)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([0, 1, 63, 64, 255, 256, 1024]),
                st.integers(1, 40),
                st.integers(1, 3),
            ),
            max_size=12,
        ),
        st.integers(0, 2**32),
    )
    def test_runs(self, runs: list[tuple[int, int, int]], seed: int) -> None:
        """Runs of equal frames, whose content looks like headers, are counted as they are."""
        chance = random.Random(seed)
        stream, told = bytearray(), []
        for size, times, parts in runs:
            for _ in range(times):
                for part in range(parts):
                    flags = int(part < parts - 1)
                    long = size > 255 or chance.random() < 0.1
                    head = bytes([flags | 2 * long]) + size.to_bytes(8 if long else 1, "big")
                    stream += head + (head * (size // len(head) + 1))[:size]
                told.append(Message(parts, size * parts))
        start, begun = SAID["push_pull"][1], list(TOLD["push_pull"][1])
        places = [chance.randrange(10**6) for _ in range(8)]
        self.assertEqual(read([start, *cut(bytes(stream), places)]), begun + told)
        self.assertEqual(read([start, bytes(stream)]), begun + told)
        view = memoryview(bytes(stream))
        self.assertEqual(read([start, view]), begun + told)  # type: ignore[list-item]
