"""What a data connection may begin with, in every cut (contract section 6, data.opening)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relayx.core.hello import Hello, HelloError, encode_hello
from relayx.core.messages import Role
from relayx.data.opening import Opening, Said, TlsBegins, Told
from relayx.net.proxy import SIGNATURE, Address, Header, encode_v2
from tests.common import check_cuts

HELLO = Hello(role=Role.FE, client_id="phone")
LINE = encode_hello(HELLO)
SOURCE, DESTINATION = Address("198.51.100.7", 40312), Address("203.0.113.1", 30101)
HEADERS = (
    b"PROXY TCP4 198.51.100.7 203.0.113.1 40312 30101\r\n",
    encode_v2(SOURCE, DESTINATION),
)


def opened(pieces: list[bytes], **how: bool) -> tuple[list[object], bytes]:
    """The steps that the pieces make, an error among them, and the bytes that are left over.

    What TLS would decrypt is what was sent, behind its first byte.
    """
    opening = Opening(**{"proxied": False, "tls": False} | how)
    steps: list[object] = []
    rest = b""
    over = encrypted = False
    for piece in pieces:
        if over:
            rest += piece
            continue
        data = piece
        while not over:
            try:
                step = opening.feed(data)
            except HelloError as error:
                steps.append(("refused", error.ack))
                return steps, b""
            if step is None:
                break
            if isinstance(step, Told):
                steps.append(step.header)
                data = step.rest
            elif isinstance(step, TlsBegins):
                encrypted = True
                steps.append("tls")
                data = step.rest[1:]
            elif isinstance(step, Said):
                steps.append(step.hello)
                rest += step.rest
                over = True
    assert not encrypted or "tls" in steps
    return steps, rest


class Table(SynchronousTestCase):
    """Each row, whole, bytewise, in two pieces, with bytes behind."""

    def check(self, sample: bytes, steps: list[object], rest: bytes = b"", **how: bool) -> None:
        check_cuts(self, lambda pieces: opened(pieces, **how), sample, (steps, rest))

    def test_hello(self) -> None:
        for how in ({}, {"tls": True}):
            self.check(LINE, [HELLO], **how)
            self.check(LINE + b"\x16PROXY \xff", [HELLO], b"\x16PROXY \xff", **how)

    def test_tls_then_hello(self) -> None:
        for required in (False, True):
            how = {"tls": True, "tls_required": required}
            self.check(b"\x16" + LINE + b"data", ["tls", HELLO], b"data", **how)

    def test_tls_begins_once(self) -> None:
        self.check(b"\x16\x16" + LINE, ["tls", ("refused", False)], tls=True)

    def test_tls_that_is_not_configured(self) -> None:
        self.check(b"\x16\x03\x01", [("refused", False)])

    def test_tls_required(self) -> None:
        for ack in (False, True):
            line = encode_hello(Hello(role=Role.BE, ack=ack))
            self.check(line, [("refused", ack)], tls=True, tls_required=True)

    def test_proxy_first(self) -> None:
        for header in HEADERS:
            told = Header(SOURCE, DESTINATION)
            self.check(header + LINE + b"x", [told, HELLO], b"x", proxied=True)
            self.check(
                header + b"\x16" + LINE + b"x", [told, "tls", HELLO], b"x", proxied=True, tls=True
            )
            self.check(
                header + LINE, [told, ("refused", False)],
                proxied=True, tls=True, tls_required=True,
            )  # fmt: skip

    def test_proxy_once(self) -> None:
        for header in HEADERS:
            steps = [Header(SOURCE, DESTINATION), ("refused", False)]
            self.check(header + header + LINE, steps, proxied=True)

    def test_proxy_not_inside_tls(self) -> None:
        for header in HEADERS:
            self.check(b"\x16" + header + LINE, ["tls", ("refused", False)], tls=True)

    def test_a_trusted_proxy_without_header(self) -> None:
        for sample in (LINE, b"\x16" + LINE, b"\xff"):
            self.check(sample, [("refused", False)], proxied=True, tls=True)
        with self.assertRaises(HelloError) as caught:
            Opening(proxied=True, tls=False).feed(LINE)
        self.assertIn("proxy_protocol.trusted: there is no PROXY header", caught.exception.text)

    def test_a_header_from_anybody_else(self) -> None:
        for header in HEADERS:
            for tls in (False, True):
                self.check(header + LINE, [("refused", False)], tls=tls)

    def test_zmtp_is_refused_so_far(self) -> None:
        self.check(b"\xff\x00\x00", [("refused", False)], tls=True)


class Fuzzing(SynchronousTestCase):
    """Whatever comes is a step or a HelloError, the same in every cut."""

    @given(
        st.lists(
            st.sampled_from([*HEADERS, b"\x16", LINE, LINE[:9], SIGNATURE, b"PROXY ", b"\n"])
            | st.binary(max_size=8),
            max_size=5,
        ),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    )
    @settings(deadline=None)
    def test_any_order(
        self, parts: list[bytes], proxied: bool, tls: bool, tls_required: bool
    ) -> None:
        sample = b"".join(parts)
        how = {"proxied": proxied, "tls": tls, "tls_required": tls and tls_required}
        whole = opened([sample], **how)
        self.assertEqual(opened([bytes([byte]) for byte in sample], **how), whole)
        self.assertEqual(opened(parts, **how), whole)
