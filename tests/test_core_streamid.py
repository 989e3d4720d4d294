"""SRT stream ids, and the rejection codes that refusals become."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relayx.core.errors import Code, PeerError
from relayx.core.messages import Role
from relayx.core.refusals import (
    ForbiddenError,
    NotAdmittedError,
    RetiredError,
    UnknownLeaseError,
    WrongServiceError,
    WrongTransportError,
)
from relayx.core.streamid import (
    MAX_STREAM_ID,
    REJECTS,
    BadModeError,
    Mode,
    Reject,
    StreamId,
    StreamIdError,
    Type,
    encode_stream_id,
    parse_stream_id,
    reject_of,
)

WHOLE = b"#!::u=cam-1,s=sess,m=publish,x-role=BE,r=web.a,x-ticket=t=1,x-on-fe-close=keep,t=stream"
SAID = StreamId(
    client_id="cam-1", session_id="sess", mode=Mode.PUBLISH, role=Role.BE, service="web.a",
    ticket="t=1", on_fe_close="keep", type=Type.STREAM,
)  # fmt: skip


class Reading(SynchronousTestCase):
    """What a caller may send."""

    def check(self, raw: bytes, **said: object) -> None:
        self.assertEqual(parse_stream_id(raw), StreamId(**said))

    def test_all_of_it(self) -> None:
        self.assertEqual(parse_stream_id(WHOLE), SAID)

    def test_nothing(self) -> None:
        self.check(b"")
        self.check(b"#!::")

    def test_a_name_of_its_own(self) -> None:
        for raw in (b"live/cam 1", b"publish:live/cam", b"u=cam,m=publish", b"#!", b"#!R,x", b"#"):
            self.check(raw, plain=raw.decode())
        self.check("ümläut".encode(), plain="ümläut")

    def test_modes(self) -> None:
        for mode in Mode:
            self.check(b"#!::m=" + mode.encode(), mode=mode)

    def test_roles(self) -> None:
        for role in Role:
            self.check(b"#!::x-role=" + role.encode(), role=role)

    def test_empty_values_are_absent(self) -> None:
        self.check(b"#!::u=,m=,x-role=,r=,s=,x-ticket=,x-on-fe-close=")

    def test_other_keys(self) -> None:
        self.check(b"#!::h=host,t=,foo=bar,foo=again,m=request", mode=Mode.REQUEST)

    def test_not_ascii(self) -> None:
        self.check("#!::u=Käme ra".encode(), client_id="Käme ra")

    def test_longest(self) -> None:
        raw = b"#!::x=" + b"a" * (MAX_STREAM_ID - 6)
        self.check(raw)
        self.check(b"a" * MAX_STREAM_ID, plain="a" * MAX_STREAM_ID)


WRONG = {
    "too_long": (b"a" * (MAX_STREAM_ID + 1), "513"),
    "not_utf8": (b"#!::u=\xff", "UTF-8"),
    "plain_not_utf8": (b"live\xc3", "UTF-8"),
    "control_character": (b"#!::u=a\nb", "control"),
    "plain_control_character": (b"live\x00", "control"),
    "c1_control_character": ("#!::u=a\x85".encode(), "control"),
    "nested": (b"#!:{u=cam}", "#!::"),
    "prefix_alone": (b"#!:", "#!::"),
    "no_value": (b"#!::u", "key=value"),
    "no_key": (b"#!::=cam", "key=value"),
    "empty_pair": (b"#!::u=cam,", "key=value"),
    "twice": (b"#!::u=a,u=b", "more than once"),
    "type": (b"#!::t=auth", "stream, file"),
    "role": (b"#!::x-role=be", "FE, BE"),
    "service": (b"#!::r=Web", "service"),
    "client_id": (b"#!::u=" + b"a" * 129, "128"),
    "unprintable_client_id": ("#!::u=a\u2028".encode(), "printable"),
    "session_id": (b"#!::s=" + b"a" * 257, "256"),
    "ticket": (b"#!::x-ticket=" + b"a" * 257, "256"),
    "on_fe_close": (b"#!::x-on-fe-close=drop", "close, keep"),
}


class Refusing(SynchronousTestCase):
    """What a caller may not send; one test each, see below."""

    def test_mode(self) -> None:
        error = self.assertRaises(BadModeError, parse_stream_id, b"#!::m=play")
        self.assertIn("request, publish, bidirectional", error.text)
        self.assertIs(reject_of(error), Reject.BAD_MODE)

    def test_shown_safely(self) -> None:
        """A peer's bytes are quoted and cut where they are told."""
        error = self.assertRaises(StreamIdError, parse_stream_id, b"#!:" + b"x" * 400)
        self.assertLess(len(error.text), 250)


def _wrong(raw: bytes, word: str) -> object:
    def test(self: Refusing) -> None:
        error = self.assertRaises(StreamIdError, parse_stream_id, raw)
        self.assertEqual(error.code, Code.HELLO_INVALID)
        self.assertIn(word, error.text)
        self.assertIs(reject_of(error), Reject.BAD_REQUEST)

    return test


for _name, _sample in WRONG.items():
    setattr(Refusing, f"test_{_name}", _wrong(*_sample))

TEXT = st.text("abAB09 .-_=:#!/é漢", max_size=20)
SERVICES = st.text("az09.-", max_size=9)


class Writing(SynchronousTestCase):
    """Reading what was written gives the same."""

    def test_all_of_it(self) -> None:
        self.assertEqual(
            encode_stream_id(SAID),
            b"#!::u=cam-1,s=sess,m=publish,t=stream,r=web.a,x-role=BE,x-ticket=t=1,"
            b"x-on-fe-close=keep",
        )

    def test_nothing(self) -> None:
        self.assertEqual(encode_stream_id(StreamId()), b"")

    def test_plain(self) -> None:
        self.assertEqual(encode_stream_id(StreamId(plain="live/cam")), b"live/cam")

    @given(
        st.builds(
            StreamId,
            client_id=TEXT,
            session_id=TEXT,
            ticket=TEXT,
            mode=st.sampled_from([None, *Mode]),
            role=st.sampled_from([None, *Role]),
            service=SERVICES,
            on_fe_close=st.sampled_from(["", "close", "keep"]),
        )
    )
    def test_both_ways(self, said: StreamId) -> None:
        self.assertEqual(parse_stream_id(encode_stream_id(said)), said)

    def test_what_cannot_be_said(self) -> None:
        for said in (
            StreamId(client_id="a,b"),
            StreamId(client_id="a\nb"),
            StreamId(ticket="t" * 257),
            StreamId(client_id="a", plain="b"),
            StreamId(plain="#!::u=a"),
            StreamId(session_id="é" * 128, ticket="é" * 128, client_id="a"),
            StreamId(plain="\ud800"),
        ):
            self.assertRaises(StreamIdError, encode_stream_id, said)


class Bytes(SynchronousTestCase):
    """Whatever comes, it is read or refused."""

    @given(st.binary(max_size=600) | st.binary(max_size=100).map(b"#!::".__add__))
    def test_any(self, raw: bytes) -> None:
        try:
            said = parse_stream_id(raw)
        except StreamIdError:
            return
        if said.plain:
            self.assertEqual((said, said.plain.encode()), (StreamId(plain=said.plain), raw))

    def test_no_secret_shown(self) -> None:
        self.assertNotIn("t=1", repr(SAID))
        self.assertNotIn("sess", repr(SAID))
        self.assertNotIn("t=1", str(list(SAID.__rich_repr__())))


class Rejecting(SynchronousTestCase):
    """How a refusal is said by SRT (access-control.md, SRT_REJX)."""

    def test_numbers(self) -> None:
        self.assertEqual(
            {reject.name: int(reject) for reject in Reject},
            {"BAD_REQUEST": 1400, "UNAUTHORIZED": 1401, "OVERLOAD": 1402, "FORBIDDEN": 1403,
             "NOT_FOUND": 1404, "BAD_MODE": 1405, "UNACCEPTABLE": 1406, "CONFLICT": 1409},
        )  # fmt: skip

    def test_every_code(self) -> None:
        self.assertEqual(set(REJECTS), set(Code))
        for code, reject in REJECTS.items():
            self.assertIs(reject_of(PeerError(code, "why")), reject)

    def test_by_code(self) -> None:
        for code, reject in (
            (Code.NOT_ADMITTED, 1401), (Code.DRAINING, 1402), (Code.PORT_EXHAUSTED, 1402),
            (Code.PORT_RESERVED, 1403), (Code.PORT_EMPTY, 1404), (Code.TTL_EXPIRED, 1404),
            (Code.PORT_BUSY, 1409), (Code.HELLO_INVALID, 1400),
        ):  # fmt: skip
            self.assertEqual(reject_of(PeerError(code, "why")), reject)

    def test_apart(self) -> None:
        """What shares a code and yet differs for a caller."""
        policy = PeerError(Code.NOT_ADMITTED, "policy")
        for error, code, reject in (
            (NotAdmittedError("x", "192.0.2.1"), Code.NOT_ADMITTED, 1401),
            (WrongTransportError("x"), Code.NOT_ADMITTED, 1406),
            (UnknownLeaseError("x"), Code.NOT_ADMITTED, 1404),
            (WrongServiceError("x"), Code.NOT_ADMITTED, 1404),
            (ForbiddenError(policy), Code.NOT_ADMITTED, 1403),
            (RetiredError(1, False), Code.DRAINING, 1404),
            (RetiredError(1, True), Code.TTL_EXPIRED, 1404),
            (BadModeError("x"), Code.HELLO_INVALID, 1405),
        ):
            self.assertEqual((error.code, reject_of(error)), (code, reject))
