"""The role of a connection that does not say it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relayx.core.bystate import role_by_state
from relayx.core.messages import Role, Transport
from tests.common import BE_AT, ELSEWHERE, FE_AT, SRT, Room

PORT = SRT[0]


class ByState(SynchronousTestCase):
    """Each state of a port, with each kind of admission and lease."""

    def room(self, admission: str = "peer", **rules: Any) -> Room:
        room = Room(admission=admission, **rules)
        self.fe, self.be = room.fe11("f"), room.be11("b")
        return room

    def role(self, room: Room, at: str) -> Role:
        return role_by_state(room.board, room.board.ports[PORT], at, room.now)

    def check(self, room: Room, **roles: Role) -> None:
        """The roles of one from the BE's address, from the FE's, and from elsewhere."""
        found = {
            name: self.role(room, at)
            for name, at in (("be", BE_AT), ("fe", FE_AT), ("other", ELSEWHERE))
        }
        self.assertEqual(found, roles)

    def test_empty(self) -> None:
        self.check(self.room(), be=Role.BE, fe=Role.FE, other=Role.BE)
        for admission in ("open", "ticket"):
            self.check(self.room(admission), be=Role.BE, fe=Role.BE, other=Role.BE)

    def test_ready(self) -> None:
        for admission in ("open", "peer"):
            room = self.room(admission)
            room.offer(PORT)
            self.check(room, be=Role.FE, fe=Role.FE, other=Role.FE)

    def test_busy(self) -> None:
        room = self.room()
        room.offer(PORT)
        room.dial(PORT)
        self.check(room, be=Role.FE, fe=Role.FE, other=Role.FE)

    def test_empty_under_an_fes_lease(self) -> None:
        """The port has lost its BE: another one from there, the owner, or whoever."""
        for admission in ("open", "peer"):
            room = self.room(admission)
            link = room.offer(PORT)
            room.acquire(self.fe, need_srt=True)
            room.hang_up(link)
            self.check(room, be=Role.BE, fe=Role.FE, other=Role.BE)

    def test_empty_under_a_bes_lease(self) -> None:
        """Any FE may wait there."""
        for admission in ("open", "peer"):
            room = self.room(admission)
            room.acquire(self.be, need_srt=True)
            self.check(room, be=Role.BE, fe=Role.FE, other=Role.FE)

    def test_both_at_one_address(self) -> None:
        """An empty port waits for a BE."""
        room = self.room()
        room.fe11("g", at=BE_AT)
        self.assertIs(self.role(room, BE_AT), Role.BE)

    def test_a_be_that_was_there_until_just_now(self) -> None:
        """Its address counts as long as for admission."""
        room = self.room(reaper_timeout=5.0)
        room.fe11("g", at=BE_AT)
        room.lose(self.be)
        room.later(4.9)
        self.assertIs(self.role(room, BE_AT), Role.BE)
        room.later(0.1)
        self.assertIs(self.role(room, BE_AT), Role.FE)

    def test_whatever_carries_the_be(self) -> None:
        room = self.room()
        room.offer(PORT, by=Transport.SRT)
        self.check(room, be=Role.FE, fe=Role.FE, other=Role.FE)
