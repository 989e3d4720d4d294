"""Names made outside the core (contract sections 2 and 6)."""

from __future__ import annotations

import base64
import re

from twisted.trial.unittest import SynchronousTestCase

from relayx.core.codec import fits, is_client_id
from relayx.core.messages import Role
from relayx.naming import RandomNames


class Names(SynchronousTestCase):
    """What they look like, and that none comes twice."""

    def setUp(self) -> None:
        self.names = RandomNames()

    def test_msg_id(self) -> None:
        """<uuid4>-<unix_ms>."""
        name = self.names.msg_id(1700000000123)
        uuid4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
        self.assertTrue(re.fullmatch(uuid4 + "-1700000000123", name), name)

    def test_ticket_is_random_enough(self) -> None:
        """At least 128 random bits."""
        ticket = self.names.ticket()
        self.assertTrue(len(base64.urlsafe_b64decode(ticket)) * 8 >= 128)

    def test_kinds(self) -> None:
        self.assertTrue(self.names.session_id().startswith("sess_"))
        self.assertTrue(self.names.pairing_id().startswith("pair_"))
        self.assertTrue(self.names.client_id(Role.FE).startswith("fe-"))
        self.assertTrue(self.names.client_id(Role.BE).startswith("be-"))

    def test_never_twice(self) -> None:
        for make in (
            self.names.session_id,
            self.names.pairing_id,
            self.names.ticket,
            lambda: self.names.client_id(Role.BE),
            lambda: self.names.msg_id(1),
        ):
            self.assertEqual(len({make() for _ in range(1000)}), 1000)

    def test_within_the_limits(self) -> None:
        self.assertTrue(is_client_id(self.names.client_id(Role.FE)))
        for name in (self.names.session_id(), self.names.ticket(), self.names.msg_id(10**13)):
            self.assertTrue(fits(name))
