"""The same sessions where the system gives the gateway no pipes (contract sections 1 and 7).

"Without descriptors for them, the buffered path serves": what holds for sessions must hold on
either path, so the tests of sessions are run again here with every pipe refused.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.trial.unittest import TestCase

from tests import test_loopback_data_bulk as bulk
from tests import test_loopback_data_close as close
from tests import test_loopback_data_hello as hello
from tests import test_loopback_data_keep as keep
from tests import test_loopback_data_keep_ends as keep_ends
from tests.live import Gateway, live


class NoPipes(TestCase):
    """No pipe can be had, as where descriptors have run out."""

    def setUp(self) -> None:
        def refuse(*_: Any) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        self.patch(os, "pipe2", refuse)  # the reactor needs os.pipe for itself


class Ends(NoPipes, close.Ends):
    """Section 7, close: ends of stream."""


class Resets(NoPipes, close.Resets):
    """Section 7, close: resets."""


class Keeping(NoPipes, keep.Keeping):
    """Section 7, keep."""


class ItsOwnEnd(NoPipes, keep_ends.ItsOwnEnd):
    """Section 7, keep: the BE's own end."""


class WaitingBE(NoPipes, hello.WaitingBE):
    """Section 6: early bytes."""


class Digests(NoPipes, bulk.Digests):
    """Section 7: many bytes."""


class Backpressure(NoPipes, bulk.Backpressure):
    """Section 7: a reader that stands still."""


class Halfway(TestCase):
    """The fast path stops working in the middle of a session (section 7)."""

    def setUp(self) -> None:
        if not hasattr(os, "splice"):
            self.skipTest("no splice here")
        self.calls = 0
        splice = os.splice

        def fails_later(*args: Any, **options: Any) -> int:
            self.calls += 1
            if self.calls > 12:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return splice(*args, **options)

        self.patch(os, "splice", fails_later)

    @live()
    def test_nothing_is_lost(self, gateway: Gateway) -> None:
        """Section 7: bytes in order, unchanged, none lost and none added."""
        client, _ = gateway.fe11("phone"), gateway.be("worker")
        be = gateway.waiting(gateway.zmq[0], "worker")
        fe = gateway.entering(gateway.zmq[0], "phone")
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        size = 8 * bulk.MIB
        up = gateway.background(bulk.send_blocks, fe, size, b"up")
        down = gateway.background(bulk.send_blocks, be, size, b"down")
        at_fe = gateway.background(bulk.receive_blocks, fe)
        at_be = gateway.background(bulk.receive_blocks, be)
        self.assertEqual(at_be.result(), (size, up.result()))
        self.assertEqual(at_fe.result(), (size, down.result()))
        end = client.expect("session_end")
        self.assertEqual((end["fe_to_be_bytes"], end["be_to_fe_bytes"]), (size, size))
