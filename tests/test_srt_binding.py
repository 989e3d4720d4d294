"""The binding of libsrt: what is missing, wrong options, addresses, sockets."""

from __future__ import annotations

import ctypes.util
import socket
import sys
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from relayx.srt import binding
from relayx.srt.binding import (
    LibraryMissingError,
    Peer,
    SrtError,
    load,
    pack_address,
    unpack_address,
)
from tests.srt_live import MISSING


class Missing(SynchronousTestCase):
    """What a gateway says that has no libsrt."""

    def test_no_library(self) -> None:
        """It names the packages that have it."""
        error = self.assertRaises(LibraryMissingError, load, "/nonexistent/libsrt.so")
        for part in ("/nonexistent/libsrt.so", "libsrt1.5-openssl", "srt-libs", "Homebrew: srt"):
            self.assertIn(part, str(error))
        self.patch(binding, "NAMES", ("libno-such-thing.so",))
        self.patch(ctypes.util, "find_library", lambda name: None)
        error = self.assertRaises(LibraryMissingError, load)
        self.assertIn("libsrt is not installed (Debian: libsrt1.5-openssl", str(error))

    def test_no_cffi(self) -> None:
        """It says how to have it."""
        with patch.dict(sys.modules, {"cffi": None}):
            error = self.assertRaises(LibraryMissingError, load)
        self.assertIn("pip install 'relayx[srt]'", str(error))

    def test_too_old(self) -> None:
        if MISSING:
            self.skipTest(MISSING)
        self.patch(binding, "LEAST_VERSION", 0x630000)
        error = self.assertRaises(LibraryMissingError, load)
        self.assertRegex(str(error), r"libsrt 1\.\d+\.\d+ is too old; 1\.4\.4 is needed")


class Addresses(SynchronousTestCase):
    """struct sockaddr."""

    def test_there_and_back(self) -> None:
        for host, port in (("127.0.0.1", 1), ("192.0.2.7", 65535), ("2001:db8::1", 4000)):
            self.assertEqual(unpack_address(pack_address(host, port)), Peer(host, port))

    def test_mapped(self) -> None:
        """IPv4 by way of IPv6 is IPv4, and a zone is no part of an address."""
        self.assertEqual(unpack_address(pack_address("::ffff:192.0.2.7", 5)), Peer("192.0.2.7", 5))
        self.assertEqual(unpack_address(pack_address("fe80::1%lo", 5)), Peer("fe80::1", 5))

    def test_none(self) -> None:
        for wrong in ("relay.example", "::relay", "300.1.1.1"):
            self.assertRaises(OSError, pack_address, wrong, 5)


class Sockets(SynchronousTestCase):
    """Against the real library."""

    skip = MISSING or None

    def setUp(self) -> None:
        """Load it."""
        self.library = load()
        self.library.start()
        self.addCleanup(self.library.stop)

    def made(self, **options: Any) -> int:
        """A socket that does not block and is closed in the end."""
        sock = self.library.create()
        self.addCleanup(self.library.close, sock)
        for name, value in {"sndsyn": False, "rcvsyn": False, **options}.items():
            self.library.set(sock, name, value)
        return sock

    def test_options(self) -> None:
        """Of every type, there and back."""
        sock = self.made()
        for name, value in (
            ("rcvlatency", 250), ("tlpktdrop", 0), ("maxbw", 5 << 32), ("fc", 3000),
            ("snddropdelay", -1), ("payloadsize", 1000), ("oheadbw", 30),
        ):  # fmt: skip
            self.library.set(sock, name, value)
            self.assertEqual(self.library.get(sock, name), value, name)
        self.library.set(sock, "streamid", "#!::u=cäm")
        self.assertEqual(self.library.get_text(sock, "streamid"), "#!::u=cäm".encode())
        self.library.set(sock, "linger", 3)

    def test_wrong_values(self) -> None:
        """The option is named; a passphrase never shows."""
        sock = self.made()
        for name, value in (
            ("passphrase", "short"), ("passphrase", b"x" * 90), ("pbkeylen", 17), ("mss", 10),
            ("payloadsize", 100000), ("packetfilter", "no-such-filter"), ("streamid", "x" * 513),
        ):  # fmt: skip
            error = self.assertRaises(SrtError, self.library.set, sock, name, value)
            self.assertTrue(str(error).startswith(f"option {name}: "), error)
            self.assertTrue(error.code > 0)
            if name == "passphrase":
                shown = value if isinstance(value, str) else value.decode()
                self.assertNotIn(shown, f"{error} {error!r}")

    def test_closed(self) -> None:
        """What is asked of a socket that is gone is an error, or nothing."""
        sock = self.library.create()
        self.library.close(sock)
        self.library.close(sock)
        for asked in (
            lambda: self.library.get(sock, "fc"),
            lambda: self.library.get_text(sock, "streamid"),
            lambda: self.library.set(sock, "fc", 3000),
            lambda: self.library.bind(sock, "127.0.0.1", 0),
            lambda: self.library.bound_to(sock),
            lambda: self.library.listen(sock, 5, lambda *came: 0),
            lambda: self.library.connect(sock, "127.0.0.1", 5),
            lambda: self.library.rendezvous(sock, Peer("127.0.0.1", 0), Peer("127.0.0.1", 5)),
        ):
            self.assertRaises(SrtError, asked)
        self.assertEqual(self.library.unsent(sock), 0)
        self.assertIs(self.library.statistics(sock), None)
        self.assertIs(self.library.accept(sock), None)
        self.assertTrue(self.library.state(sock) > binding.CONNECTED)

    def test_bind(self) -> None:
        """To IPv4 alone, to both kinds, and not to what somebody has."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            number = taken.getsockname()[1]
            error = self.assertRaises(SrtError, self.library.bind, self.made(), "127.0.0.1", number)
            self.assertIn("it cannot be bound", str(error))
        for host, shown in (("", "0.0.0.0"), ("127.0.0.1", "127.0.0.1")):
            sock = self.made()
            self.library.bind(sock, host, 0)
            self.assertEqual(self.library.bound_to(sock).host, shown)
        both = self.made()
        self.library.bind(both, "::", 0)
        self.library.listen(both, 5, lambda *came: 0)
        caller = self.made(rcvsyn=True)
        self.library.connect(caller, "127.0.0.1", self.library.bound_to(both).port)
        self.assertEqual(self.library.state(caller), binding.CONNECTED)

    def test_callback(self) -> None:
        """It is told who comes with which stream id, and its answer reaches the caller."""
        came: list[tuple[Peer, bytes]] = []

        def decide(sock: int, peer: Peer, streamid: bytes) -> int:
            came.append((peer, streamid))
            return 1404 if streamid == b"no" else 0

        listener = self.made(rcvsyn=True)  # accepting waits for one who is connected
        self.library.bind(listener, "127.0.0.1", 0)
        self.library.listen(listener, 5, decide)
        port = self.library.bound_to(listener).port
        refused, taken = (
            self.made(rcvsyn=True, streamid="no"),
            self.made(rcvsyn=True, streamid="#!::u=x"),
        )
        self.assertRaises(SrtError, self.library.connect, refused, "127.0.0.1", port)
        self.assertEqual(self.library.reject_reason(refused), 1404)
        self.assertIn("pplication", self.library.reject_text(1404))
        self.library.connect(taken, "127.0.0.1", port)
        self.assertEqual([streamid for _, streamid in came], [b"no", b"#!::u=x"])
        accepted = self.library.accept(listener)
        assert accepted is not None
        self.assertEqual(accepted[1], came[1][0])
        self.assertEqual(accepted[1].host, "127.0.0.1")
        self.library.close(accepted[0])

    def test_start_and_stop_again(self) -> None:
        """Each only once."""
        self.library.start()
        self.library.stop()
        self.library.stop()
        self.library.start()
        self.assertRegex(self.library.version, r"^1\.\d+\.\d+$")
