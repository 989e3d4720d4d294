"""The options that the configuration lets through, at the libsrt of this machine."""

from __future__ import annotations

import ctypes
from typing import Any

from twisted.trial.unittest import SkipTest, TestCase

from relayx.config.convert import section_keys
from relayx.config.model import Config, Secrets
from relayx.config.srt import Srt
from relayx.settings import srt_settings

NUMBERS = {
    "mss": 0, "fc": 4, "sndbuf": 5, "rcvbuf": 6, "maxbw": 16, "inputbw": 24, "oheadbw": 25,
    "passphrase": 26, "pbkeylen": 27, "tlpktdrop": 31, "snddropdelay": 32, "conntimeo": 36,
    "lossmaxttl": 42, "rcvlatency": 43, "peerlatency": 44, "payloadsize": 49, "packetfilter": 60,
}  # fmt: skip
"""Of SRT_SOCKOPT in srt.h."""

WIDE = {"maxbw", "inputbw"}
CRITICAL = 2


class Libsrt(TestCase):
    """A real socket takes each option, and keeps what it was given."""

    def setUp(self) -> None:
        for name in ("libsrt.so.1.5", "libsrt-gnutls.so.1.5", "libsrt.1.5.dylib"):
            try:
                self.library = ctypes.CDLL(name)
                break
            except OSError:
                continue
        else:
            raise SkipTest("libsrt is not installed")
        self.library.srt_startup()
        self.addCleanup(self.library.srt_cleanup)
        self.library.srt_setloglevel(CRITICAL)

    def socket(self) -> int:
        made: int = self.library.srt_create_socket()
        self.addCleanup(self.library.srt_close, made)
        return made

    def set(self, socket: int, name: str, value: Any) -> bool:
        if isinstance(value, str):
            data = ctypes.create_string_buffer(value.encode())
            size = len(data) - 1
        else:
            kind = ctypes.c_bool if isinstance(value, bool) else ctypes.c_int32
            boxed: Any = (ctypes.c_int64 if name in WIDE else kind)(value)
            data, size = ctypes.byref(boxed), ctypes.sizeof(boxed)
        return self.library.srt_setsockopt(socket, 0, NUMBERS[name], data, size) == 0

    def get(self, socket: int, name: str) -> int:
        boxed: Any = (ctypes.c_int64 if name in WIDE else ctypes.c_int32)()
        size = ctypes.c_int(ctypes.sizeof(boxed))
        code = self.library.srt_getsockopt(
            socket, 0, NUMBERS[name], ctypes.byref(boxed), ctypes.byref(size)
        )
        self.assertEqual(code, 0, name)
        told: int = boxed.value
        return told

    def test_all_are_taken(self) -> None:
        """The defaults, and sections at one limit of each option or the other."""
        for srt in (
            Srt(),
            Srt(mss=76, payloadsize=32, rcvbuf=32 * 48, sndbuf=32 * 48, fc=32, latency=0),
            Srt(mss=65536, rcvbuf=32 * 65508, sndbuf=32 * 65508, payloadsize=1456),
            Srt(packetfilter="fec,cols:10,rows:5,layout:staircase,arq:onreq", payloadsize=1452),
            Srt(packetfilter="fec,rows:-2,cols:2,layout:even,arq:never", payloadsize=0),
            Srt(packetfilter="fec"),
            Srt(pbkeylen=24, latency=65535, peerlatency=1, snddropdelay=-1, tlpktdrop=False),
            Srt(maxbw=0, inputbw=2**63 - 1, oheadbw=100, lossmaxttl=2**31 - 1, conntimeo=600_000),
            Srt(maxbw=2**63 - 1, oheadbw=5, conntimeo=0, snddropdelay=2**31 - 1, fc=2**31 - 1),
        ):
            socket = self.socket()
            told = srt_settings(Config(srt=srt), Secrets("s")).options
            for name, value in told:
                self.assertTrue(self.set(socket, name, value), (name, value))
            for name in ("mss", "fc", "rcvbuf", "sndbuf", "rcvlatency", "peerlatency"):
                self.assertEqual(self.get(socket, name), dict(told)[name], name)

    def test_past_the_limits(self) -> None:
        """What the configuration refuses for its range, libsrt refuses too."""
        keys = section_keys(Srt)
        for name in ("mss", "fc", "rcvbuf", "sndbuf", "maxbw", "inputbw", "oheadbw",
                     "snddropdelay", "conntimeo", "payloadsize"):  # fmt: skip
            least = keys[name].meta.ge
            self.assertIsInstance(least, int)
            self.assertFalse(self.set(self.socket(), name, int(least or 0) - 1), name)
        for name, value in (
            ("oheadbw", 101), ("payloadsize", 1457), ("pbkeylen", 17), ("passphrase", "x" * 9),
            ("packetfilter", "fec,cols:1"), ("packetfilter", "fec,cols:2,rows:-1"),
            ("packetfilter", "fec,arq:ever"), ("packetfilter", "xor"),
        ):  # fmt: skip
            self.assertFalse(self.set(self.socket(), name, value), (name, value))

    def test_passphrases(self) -> None:
        for length in (10, 79):
            self.assertTrue(self.set(self.socket(), "passphrase", "x" * length))
