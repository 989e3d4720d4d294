"""The gateway's state, and the small steps that every rule is made of.

The rules themselves are in registration, leasing and pairing; switchboard joins them.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from relayx.core import effects as fx
from relayx.core.brokered import BrokerPorts
from relayx.core.directory import Client
from relayx.core.errors import Code, PeerError
from relayx.core.leases import LeaseTable
from relayx.core.messages import Cause, Error, Message, PortAlloc, Role
from relayx.core.messages import Protocol as PortProtocol
from relayx.core.policy import Policies
from relayx.core.ports import Change, Link, PortTable, Session
from relayx.core.roster import Roster


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that the core decides by; durations in seconds (contract section 1).

    :ivar srt_bridge: whether a TCP connection and an SRT one may be paired.
    :ivar srt_fan_out: most FEs at once that watch one BE's SRT stream.
    :ivar brokers: whose ports are not for HELLO; none comes or goes while the gateway runs.
    """

    ports: PortAlloc
    max_fe: int = 50
    max_be: int = 50
    reaper_timeout: float = 10.0
    hello_timeout: float = 2.0
    admission: str = "peer"
    keep: bool = True
    advertise_host: str = ""
    server: str = "relayx"
    leases_per_client: int = 1024
    srt_bridge: bool = False
    srt_fan_out: int = 1
    brokers: tuple[BrokerPorts, ...] = ()


class Names(Protocol):
    """Where new names come from; they are made outside the core, like the time."""

    def session_id(self) -> str:
        """A new lease's name."""

    def pairing_id(self) -> str:
        """A new session's name."""

    def ticket(self) -> str:
        """A new lease's ticket, at least 128 random bits."""

    def client_id(self, role: Role) -> str:
        """A name for a client that gave none."""


class Due:
    """Something to do at a time; `what` is None once it is done or cancelled."""

    __slots__ = ("what",)

    def __init__(self, what: Callable[[float], None]) -> None:
        self.what: Callable[[float], None] | None = what


class Board:
    """All state of the gateway, the effects so far, and what is due when."""

    def __init__(self, rules: Rules, names: Names, policies: Policies | None = None) -> None:
        self.rules = rules
        self.policies = policies or Policies()
        self.names = names
        self.roster = Roster(rules.reaper_timeout)
        self.ports = PortTable(numbers(rules.ports), rules.brokers)
        self.leases = LeaseTable()
        self.links: dict[int, Link] = {}
        self.sessions: dict[str, Session] = {}
        self.draining = False
        self.private_keys_dropped = 0
        self.sessions_ended: Counter[Cause] = Counter()
        self._effects: list[fx.Effect] = []
        self._changed = False
        self._due: list[tuple[float, int, Due]] = []
        self._cancelled = 0
        self._due_order = 0

    def emit(self, effect: fx.Effect) -> None:
        """Add one effect to those of the event at hand."""
        self._effects.append(effect)

    def take(self, trace_id: str = "") -> list[fx.Effect]:
        """The effects of the event at hand, and forget them."""
        if self._changed:
            self._effects.append(fx.StateChanged(trace_id))
            self._changed = False
        taken, self._effects = self._effects, []
        return taken

    def changed(self) -> None:
        """``port_state`` is different from now on."""
        self._changed = True

    def send(self, client: Client, message: Message, trace_id: str = "") -> None:
        """Send to one client, unless it is lost."""
        if not client.lost:
            self.emit(fx.Send(client.conn, message, trace_id))

    def broadcast(self, role: Role, message: Message, trace_id: str = "") -> None:
        """Send to every registered client of a role."""
        self.emit(fx.Broadcast(role, message, trace_id))

    def reply_error(self, conn: int, error: PeerError) -> None:
        """Answer a message with ``error``."""
        message = Error(error_code=error.code, error=error.text, in_reply_to=error.msg_id)
        self.emit(fx.Send(conn, message, error.trace_id))

    def note(self, level: str, event: str, text: str, **fields: Any) -> None:
        """Say something in the log."""
        self.emit(fx.Note(level, event, text, fields))

    def at(self, when: float, what: Callable[[float], None]) -> Due:
        """Have `what` called with the time once `when` has passed, unless it is cancelled."""
        self._due_order += 1
        due = Due(what)
        heapq.heappush(self._due, (when, self._due_order, due))
        return due

    def cancel(self, due: Due | None) -> None:
        """Forget something that :meth:`at` was to do; the heap never holds mostly such ones."""
        if due is None or due.what is None:
            return
        due.what = None
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._due):
            self._due = [entry for entry in self._due if entry[2].what is not None]
            heapq.heapify(self._due)
            self._cancelled = 0

    def next_due(self) -> float | None:
        """When :meth:`run_due` has something to do next."""
        while self._due and self._due[0][2].what is None:
            heapq.heappop(self._due)
            self._cancelled -= 1
        return self._due[0][0] if self._due else None

    def run_due(self, now: float) -> None:
        """Do what is due."""
        while (when := self.next_due()) is not None and when <= now:
            due = heapq.heappop(self._due)[2]
            what, due.what = due.what, None
            if what is not None:
                what(now)

    def change(self, link: Link, change: Change) -> None:
        """Take a link's port through a transition."""
        self.ports.change(link.port, change)
        self.changed()

    def leave(self, link: Link) -> None:
        """A waiting connection no longer waits."""
        port = link.port
        self.links.pop(link.id, None)
        self.cancel(link.due)
        if port.waiting_be is link:
            port.waiting_be = None
            self.change(link, Change.BE_GONE)
        elif port.waiting_fe is link:
            port.waiting_fe = None

    def refuse(self, link: Link, code: Code, text: str) -> None:
        """Turn away a connection that waits or has just said HELLO."""
        self.leave(link)
        self.emit(fx.Refuse(link.id, code, text))

    def close(self, link: Link) -> None:
        """Close a connection that waits, without a word."""
        self.leave(link)
        self.emit(fx.CloseLink(link.id))

    def take_place(self, old: Link, link: Link) -> None:
        """A BE's newer connection waits where its older one did; the port stays ready."""
        port = link.port
        self.links.pop(old.id, None)
        self.cancel(old.due)
        port.waiting_be = port.last_be = link
        if (old.hello.service, old.transport) != (link.hello.service, link.transport):
            self.changed()
        self.emit(fx.CloseLink(old.id))
        self.emit(fx.Wait(link.id))

    def end_session(self, session: Session, cause: Cause) -> None:
        """Have a session closed, once however many reasons there are."""
        if not session.ending:
            session.ending = True
            self.emit(fx.EndSession(session.pairing_id, cause))

    def waiting(self) -> list[Link]:
        """Every connection that waits, BE or FE."""
        return [
            link
            for port in self.ports
            for link in (port.waiting_be, port.waiting_fe)
            if link is not None
        ]


def numbers(ranges: PortAlloc) -> list[tuple[int, PortProtocol]]:
    """Each port of the ranges that ``port_alloc`` names, with its protocol."""
    spans = (
        (PortProtocol.ZMQ, ranges.zmq_start_port, ranges.zmq_end_port),
        (PortProtocol.SRT, ranges.srt_start_port, ranges.srt_end_port),
    )
    return [
        (n, protocol) for protocol, first, last in spans if first for n in range(first, last + 1)
    ]
