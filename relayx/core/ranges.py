"""Data ports that come and go while the gateway runs (contract section 4).

A port that is taken out is *retired*: nobody new may use it, its lease ends there, whoever
waits is let go, and a session that runs on it goes on. It is gone when that has ended, and is
busy in ``port_state`` until then.
"""

from __future__ import annotations

import msgspec

from relayx.core.board import Board, numbers
from relayx.core.errors import Code, StateError
from relayx.core.leasing import Leasing
from relayx.core.messages import PortAlloc, Protocol, Role
from relayx.core.ports import Link, Port


class Touched(msgspec.Struct, frozen=True):
    """What a change of the port ranges would do, and to whom.

    :ivar added: ports that there are to be; `removed` those that are not, `kept` the others.
    :ivar sessions: pairing ids of sessions that go on, on ports that end with them.
    :ivar leases: session ids of leases that end on one port or both.
    :ivar clients: ids of those whose sessions, leases or waiting connections these are.
    :ivar waiting: how many waiting connections are closed.
    :ivar blocked: ports that would change their protocol, which a session forbids.
    """

    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()
    sessions: tuple[str, ...] = ()
    leases: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    waiting: int = 0
    blocked: tuple[int, ...] = ()


class Ranges:
    """The rules of ports that come and go, over one board."""

    def __init__(self, board: Board, leasing: Leasing) -> None:
        self._board = board
        self._leasing = leasing

    def touched(self, ranges: PortAlloc) -> Touched:
        """What :meth:`change` to these ranges would do; nothing changes."""
        board = self._board
        wanted = dict(numbers(ranges))
        before = dict(numbers(board.rules.ports))
        leaving = self._leaving(wanted)
        sessions = [session for port in leaving for session in port.sessions.values()]
        leases = {port.lease.session_id: port.lease for port in leaving if port.lease is not None}
        links: list[Link] = [link for session in sessions for link in (session.fe, session.be)]
        waiting = [x for p in leaving for x in (p.waiting_be, p.waiting_fe) if x is not None]
        owners = [board.roster.owner(link) for link in [*links, *waiting]]
        owners += [lease.owner for lease in leases.values()]
        return Touched(
            added=tuple(sorted(n for n, kind in wanted.items() if before.get(n) is not kind)),
            removed=tuple(sorted(n for n, kind in before.items() if wanted.get(n) is not kind)),
            kept=tuple(sorted(n for n, kind in wanted.items() if before.get(n) is kind)),
            sessions=tuple(session.pairing_id for session in sessions),
            leases=tuple(leases),
            clients=tuple(sorted({owner.client_id for owner in owners if owner is not None})),
            waiting=len(waiting),
            blocked=tuple(
                port.number
                for port in board.ports
                if port.sessions and wanted.get(port.number, port.protocol) is not port.protocol
            ),
        )

    def _leaving(self, wanted: dict[int, Protocol]) -> list[Port]:
        """The ports that a change to `wanted` would retire."""
        return [
            port
            for port in self._board.ports
            if not port.retired and wanted.get(port.number) is not port.protocol
        ]

    def change(self, ranges: PortAlloc, trace_id: str = "") -> None:
        """Go by these ranges from now on, and tell every FE.

        :raises StateError: where a session forbids it, see :attr:`Touched.blocked`.
        """
        board = self._board
        if blocked := self.touched(ranges).blocked:
            raise StateError(f"ports {blocked} cannot change their protocol under a session")
        wanted = dict(numbers(ranges))
        for leaving in self._leaving(wanted):
            self._retire(leaving, trace_id)
        for number, protocol in wanted.items():
            port = board.ports.get(number)
            if port is None:
                board.ports.add(number, protocol)
                board.changed()
            else:  # its session still runs on, and it is as it was
                port.retired = False
        board.broadcast(Role.FE, ranges, trace_id)

    def _retire(self, port: Port, trace_id: str) -> None:
        board = self._board
        port.retired = True
        if port.lease is not None:
            self._leasing.end(port.lease, [port], Code.DRAINING, by_gateway=True, trace_id=trace_id)
        if port.waiting_be is not None:
            board.close(port.waiting_be)
        if not port.sessions:
            board.ports.remove(port)
            board.changed()
