"""Builders for the tests of the rules, and the checker of parsers that read in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar
from unittest import TestCase

import msgspec

from relayx.core import effects as fx
from relayx.core.board import Rules
from relayx.core.errors import Code
from relayx.core.hello import Hello
from relayx.core.messages import (
    Cause,
    Message,
    PortAcquire,
    PortAlloc,
    PortGrant,
    PortRelease,
    PortState,
    Register,
    Role,
    Transport,
)
from relayx.core.pairing import Outcome
from relayx.core.policy import Policies, Policy
from relayx.core.ports import Way
from relayx.core.switchboard import Switchboard

FE_AT = "192.0.2.1"
BE_AT = "192.0.2.2"
ELSEWHERE = "198.51.100.9"

ZMQ = (3001, 3002, 3003)
SRT = (4001, 4002)
RANGES = PortAlloc(
    zmq_start_port=ZMQ[0], zmq_end_port=ZMQ[-1], srt_start_port=SRT[0], srt_end_port=SRT[-1]
)
START = 1_700_000_000.0

E = TypeVar("E", bound=fx.Effect)
T = TypeVar("T")


class CountingNames:
    """Names that say what they are and come in order: sess-1, TICKET-1, pair-1, fe-1, msg-1."""

    def __init__(self) -> None:
        self.given: dict[str, int] = {}

    def _next(self, kind: str) -> str:
        self.given[kind] = self.given.get(kind, 0) + 1
        return f"{kind}-{self.given[kind]}"

    def session_id(self) -> str:
        return self._next("sess")

    def pairing_id(self) -> str:
        return self._next("pair")

    def ticket(self) -> str:
        return self._next("TICKET")

    def client_id(self, role: Role) -> str:
        return self._next(role.lower())

    def msg_id(self, unix_ms: int) -> str:
        return f"{self._next('msg')}-{unix_ms}"


class Room:
    """A switchboard with a few ports, its time, and the effects of the last event.

    Admission is ``open`` unless said otherwise, since most rules have nothing to do with it.
    """

    def __init__(self, *policies: Policy, **rules: Any) -> None:
        self.names = CountingNames()
        self.now = START
        self.rules = Rules(**{"ports": RANGES, "admission": "open"} | rules)
        self.switchboard = Switchboard(self.rules, self.names, Policies(policies))
        self.effects: list[fx.Effect] = []
        self._numbers = 0

    @property
    def board(self) -> Any:
        return self.switchboard.board

    def number(self) -> int:
        """A number that no connection has had."""
        self._numbers += 1
        return self._numbers

    def did(self, effects: list[fx.Effect]) -> list[fx.Effect]:
        self.effects = effects
        return effects

    # control connections

    def register(self, role: str, client_id: str = "", **how: Any) -> int:
        """Register a client; return the number of its control connection."""
        at = how.pop("at", FE_AT if role == "FE" else BE_AT)
        authentic, trace_id = how.pop("authentic", True), how.pop("trace_id", "")
        asked = Register(role=role, client_id=client_id, **{"secret": "SECRET"} | how)
        conn = self.number()
        self.did(self.switchboard.registered(self.now, conn, at, asked, authentic, trace_id))
        return conn

    def fe(self, client_id: str = "", **how: Any) -> int:
        return self.register("FE", client_id, **how)

    def be(self, client_id: str = "", **how: Any) -> int:
        return self.register("BE", client_id, **how)

    def fe11(self, client_id: str = "", **how: Any) -> int:
        return self.register("FE", client_id, **{"protocol": "1.1"} | how)

    def be11(self, client_id: str = "", **how: Any) -> int:
        return self.register("BE", client_id, **{"protocol": "1.1"} | how)

    def ask(
        self, conn: int, message: Message, msg_id: str = "", trace_id: str = ""
    ) -> list[fx.Effect]:
        """A client's message."""
        return self.did(self.switchboard.requested(self.now, conn, message, msg_id, trace_id))

    def acquire(self, conn: int, **asked: Any) -> PortGrant:
        """Ask for a lease, on a zmq port unless said otherwise; return the answer."""
        trace_id = asked.pop("trace_id", "")
        if not {"need_zmq", "need_srt"} & set(asked):
            asked["need_zmq"] = True
        message = PortAcquire(**{"request_id": "req"} | asked)
        return grant_to(self.ask(conn, message, trace_id=trace_id), conn)

    def release(self, conn: int, session_id: str, **how: Any) -> list[fx.Effect]:
        return self.ask(conn, PortRelease(session_id=session_id), **how)

    def lose(self, conn: int) -> list[fx.Effect]:
        """A control connection ends."""
        return self.did(self.switchboard.lost(self.now, conn))

    # data connections

    def hello(self, role: Role, port: int, client_id: str = "", **said: Any) -> int:
        """A data connection says HELLO; return its number."""
        at = said.pop("at", FE_AT if role is Role.FE else BE_AT)
        way = Way(transport=said.pop("by", Transport.TCP), publishes=said.pop("publishes", False))
        link = self.number()
        hello = Hello(role=role, client_id=client_id, **said)
        self.did(self.switchboard.hello(self.now, link, port, at, hello, way))
        return link

    def dial(self, port: int, client_id: str = "", **said: Any) -> int:
        """An FE comes to a port."""
        return self.hello(Role.FE, port, client_id, **said)

    def offer(self, port: int, client_id: str = "", **said: Any) -> int:
        """A BE comes to a port."""
        return self.hello(Role.BE, port, client_id, **said)

    def hang_up(self, link: int) -> list[fx.Effect]:
        """A waiting data connection ends."""
        return self.did(self.switchboard.link_lost(self.now, link))

    def over(self, pairing_id: str, *, kept: bool = False, **seen: Any) -> list[fx.Effect]:
        """A session ends."""
        outcome = Outcome(**{
            "cause": Cause.FE_CLOSED, "text": "the FE ended its stream", "fe_to_be_bytes": 3,
            "be_to_fe_bytes": 4, "seconds": 1.5, "be_kept": kept,
        } | seen)  # fmt: skip
        return self.did(self.switchboard.session_over(self.now, pairing_id, outcome))

    def drains(self, pairing_id: str) -> list[fx.Effect]:
        """A session's port begins to be drained."""
        return self.did(self.switchboard.session_draining(pairing_id))

    # time

    def later(self, seconds: float) -> list[fx.Effect]:
        """Time passes."""
        self.now += seconds
        return self.did(self.switchboard.tick(self.now))

    def change_rules(self, **rules: Any) -> list[fx.Effect]:
        """The configuration is another."""
        self.rules = msgspec.structs.replace(self.rules, **rules)
        return self.did(self.switchboard.replace_rules(self.rules))

    def stop(self) -> list[fx.Effect]:
        """The gateway begins to stop."""
        return self.did(self.switchboard.drain())

    # what is to be seen

    def state(self, *, v11: bool = True) -> PortState:
        return self.switchboard.port_state(v11=v11)

    def leases(self, conn: int) -> set[str]:
        """The session ids of a registered client's live leases."""
        client = self.switchboard.client(conn)
        return {lease.session_id for lease in self.board.leases.of(client)}


def of(effects: Iterable[fx.Effect], kind: type[E]) -> list[E]:
    """The effects of one kind, in order."""
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects: Iterable[fx.Effect], conn: int) -> list[Message]:
    """What is sent to one connection alone, in order."""
    return [effect.message for effect in of(effects, fx.Send) if effect.conn == conn]


def told(effects: Iterable[fx.Effect], role: Role) -> list[Message]:
    """What is broadcast to a role, in order."""
    return [effect.message for effect in of(effects, fx.Broadcast) if effect.role is role]


def grant_to(effects: Iterable[fx.Effect], conn: int) -> PortGrant:
    """The one answer to a ``port_acquire``."""
    (grant,) = [m for m in sent(effects, conn) if isinstance(m, PortGrant)]
    return grant


def refusals(effects: Iterable[fx.Effect]) -> list[tuple[int, Code]]:
    """Which data connections are turned away, and why."""
    return [(effect.link, effect.code) for effect in of(effects, fx.Refuse)]


def closed(effects: Iterable[fx.Effect]) -> list[int]:
    """Which waiting data connections are closed without a word."""
    return [effect.link for effect in of(effects, fx.CloseLink)]


def pairs(effects: Iterable[fx.Effect]) -> list[tuple[int, int]]:
    """Which data connections become sessions, as (FE, BE)."""
    return [(effect.fe, effect.be) for effect in of(effects, fx.Pair)]


def pairing(effects: Iterable[fx.Effect]) -> str:
    """The name of the one session that begins."""
    (pair,) = of(effects, fx.Pair)
    return pair.pairing_id


def notes(effects: Iterable[fx.Effect], event: str) -> list[fx.Note]:
    """The log lines of one event."""
    return [note for note in of(effects, fx.Note) if note.event == event]


def cuts(sample: bytes) -> Iterator[list[bytes]]:
    """A sample whole, then byte by byte, then in two pieces, cut at every place."""
    yield [sample]
    yield [sample[i : i + 1] for i in range(len(sample))]
    for at in range(1, len(sample)):
        yield [sample[:at], sample[at:]]


def check_cuts(
    case: TestCase, parse: Callable[[list[bytes]], T], sample: bytes, expected: T
) -> None:
    """Check that `parse`, given pieces, finds the same whatever way `sample` is cut."""
    for pieces in cuts(sample):
        case.assertEqual(parse(pieces), expected, f"cut into {len(pieces)}: {pieces[:3]}")
