"""A model of the gateway made from nothing but its effects, to check the board against.

It knows who waits, who is paired, and which leases were granted and ended, from what the
effects and messages said. Used by test_core_machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from relayx.core import effects as fx
from relayx.core.messages import (
    Cause,
    Error,
    PortAlloc,
    PortGrant,
    PortRelease,
    PortState,
    Protocol,
    Role,
    ServiceCount,
    Transport,
)
from tests.common import Room, of, told

RANGES = PortAlloc(zmq_start_port=3001, zmq_end_port=3002, srt_start_port=4001, srt_end_port=4001)
OTHER_RANGES = (
    PortAlloc(zmq_start_port=3002, zmq_end_port=3003, srt_start_port=4001, srt_end_port=4002),
    PortAlloc(srt_start_port=4001, srt_end_port=4001),
    PortAlloc(zmq_start_port=3001, zmq_end_port=3001, srt_start_port=3002, srt_end_port=3002),
)
PORTS = (3001, 3002, 3003, 4001, 4002)
"""Every port that there may be."""
SECRETS = ("SECRET", "TICKET", "PRIVATE")


@dataclass
class Link:
    """A data connection, as the effects tell of it: new, waiting, paired or gone."""

    role: Role
    port: int
    service: str
    by: Transport = Transport.TCP
    publishes: bool = False
    state: str = "new"


@dataclass
class Lease:
    """A lease, as the messages tell of it."""

    role: Role
    expires: float
    ticket: str
    ports: set[int] = field(default_factory=set)


def kinds(ranges: PortAlloc) -> dict[int, str]:
    """Each port of some ranges, with its protocol."""
    zmq = range(ranges.zmq_start_port, ranges.zmq_end_port + 1) if ranges.zmq_start_port else ()
    srt = range(ranges.srt_start_port, ranges.srt_end_port + 1) if ranges.srt_start_port else ()
    return dict.fromkeys(zmq, "zmq") | dict.fromkeys(srt, "srt")


class Model:
    """What is known of one room; :meth:`check` is called after each of its events."""

    def start(self, room: Room) -> None:
        self.room = room
        self.conns: dict[int, Role] = {}
        self.links: dict[int, Link] = {}
        self.leases: dict[str, Lease] = {}
        self.ended: list[tuple[str, str]] = []
        self.sessions: dict[str, fx.Pair] = {}
        self.gone: set[int] = set()
        self.stopping = False
        self.ports = kinds(RANGES)
        self.retired: set[int] = set()
        self.before = room.state()

    def finish(self, name: str, kept: bool, cause: Cause = Cause.FE_CLOSED) -> None:
        pair = self.sessions.pop(name)
        self.links[pair.fe].state = "gone"
        if not kept:
            self.gone.add(pair.be)
        if all(other.be != pair.be for other in self.sessions.values()):
            self.links[pair.be].state = "gone" if pair.be in self.gone else "new"
            if pair.port in self.retired:
                self.retired.remove(pair.port)
                del self.ports[pair.port]
        self.room.over(name, kept=kept, cause=cause)
        self.check()
        assert self.links[pair.be].state != "new"

    # the model, from the effects

    def ready(self) -> dict[int, str]:
        """The ports where a BE waits, each with its service."""
        waiting = [self.links[number] for number in self.of_state("waiting")]
        return {link.port: link.service for link in waiting if link.role is Role.BE}

    def native(self) -> set[int]:
        """The ports where a BE waits that came by SRT."""
        waiting = [self.links[number] for number in self.of_state("waiting")]
        return {x.port for x in waiting if x.role is Role.BE and x.by is Transport.SRT}

    def watched(self) -> dict[int, str]:
        """The ports whose BE further FEs may watch, each with its service."""
        shared = [pair for pair in self.sessions.values() if pair.shared]
        return {pair.port: self.links[pair.be].service for pair in shared}

    def taken(self) -> set[int]:
        """The ports where a BE is."""
        return {*self.ready(), *(pair.port for pair in self.sessions.values())}

    def change(self, ranges: PortAlloc) -> None:
        """The ports are others: those that are gone and have no session are so at once."""
        touched = self.room.switchboard.touched_by(ranges)
        busy = {pair.port for pair in self.sessions.values()}
        wanted = kinds(ranges)
        leaving = {p for p, kind in self.ports.items() if wanted.get(p) != kind} - self.retired
        let_go = [n for n in self.of_state("waiting") if self.links[n].port in leaving]
        assert touched.waiting == len(let_go)
        assert {self.sessions[name].port for name in touched.sessions} == leaving & busy
        assert set(touched.leases) == {n for n, x in self.leases.items() if x.ports & leaving}
        self.retired = {p for p in self.retired | leaving if p in busy and p not in wanted}
        self.ports = wanted | {p: self.ports[p] for p in self.retired}
        self.room.change_rules(ports=ranges)
        assert [m for m in told(self.room.effects, Role.FE) if isinstance(m, PortAlloc)] == [ranges]
        self.check()
        assert {self.links[n].state for n in let_go} <= {"gone"}
        assert not any(x.ports & leaving for x in self.leases.values())

    def of_state(self, state: str) -> list[int]:
        return [number for number, link in self.links.items() if link.state == state]

    def check(self) -> None:
        """Follow the effects of the last event, then compare the board with the model."""
        ended: dict[str, Cause] = {}
        for effect in self.room.effects:
            follow = getattr(self, f"saw_{type(effect).__name__}", None)
            if follow is not None:
                follow(effect)
            if isinstance(effect, fx.EndSession):
                ended[effect.pairing_id] = effect.cause
        self.check_pushes()
        self.check_links()
        self.check_leases()
        self.check_state()
        for name, cause in ended.items():
            self.finish(name, False, cause)

    def saw_Wait(self, effect: fx.Wait) -> None:
        assert self.links[effect.link].state == "new"
        assert not self.stopping
        self.links[effect.link].state = "waiting"

    def saw_Refuse(self, effect: fx.Refuse) -> None:
        link = self.links[effect.link]
        assert link.state == "new" or (link.state == "waiting" and link.role is Role.FE)
        assert effect.text
        self.no_secret(effect.text)
        link.state = "gone"

    def saw_CloseLink(self, effect: fx.CloseLink) -> None:
        assert self.links[effect.link].state in ("waiting", "new")
        self.links[effect.link].state = "gone"

    def saw_Pair(self, effect: fx.Pair) -> None:
        fe, be = self.links[effect.fe], self.links[effect.be]
        assert (fe.role, be.role) == (Role.FE, Role.BE)
        assert fe.port == be.port == effect.port
        assert fe.state in ("new", "waiting")
        running = [pair for pair in self.sessions.values() if pair.be == effect.be]
        if running:
            assert (be.state, fe.state) == ("paired", "new")
            assert effect.be not in self.gone
            assert all(pair.shared for pair in [*running, effect])
            assert len(running) < self.room.rules.srt_fan_out
        else:
            assert be.state == "waiting"
        assert (effect.transport_fe, effect.transport_be) == (fe.by, be.by)
        assert fe.by is be.by or self.room.rules.srt_bridge
        assert not effect.shared or (be.publishes and fe.by is be.by is Transport.SRT)
        assert not self.stopping
        assert effect.pairing_id not in self.sessions
        fe.state = be.state = "paired"
        self.sessions[effect.pairing_id] = effect
        self.no_secret(repr((effect.to_fe, effect.to_be)))

    def saw_EndSession(self, effect: fx.EndSession) -> None:
        assert effect.pairing_id in self.sessions

    def saw_Registered(self, effect: fx.Registered) -> None:
        assert effect.conn not in self.conns
        assert not self.stopping
        self.conns[effect.conn] = effect.role

    def saw_CloseControl(self, effect: fx.CloseControl) -> None:
        self.conns.pop(effect.conn, None)

    def saw_Note(self, effect: fx.Note) -> None:
        self.no_secret(repr(effect))

    def saw_Send(self, effect: fx.Send) -> None:
        message = effect.message
        if isinstance(message, PortGrant) and message.session_id:
            assert not self.stopping
            assert message.ticket
            role = self.conns[effect.conn]
            lease = Lease(role, message.expires_at / 1000, message.ticket)
            lease.ports = {port for port in (message.zmq_port, message.srt_port) if port}
            self.leases[message.session_id] = lease
        elif isinstance(message, Error):
            self.no_secret(message.error)
        else:
            self.no_secret(msgspec.json.encode(message).decode())

    def saw_Broadcast(self, effect: fx.Broadcast) -> None:
        message = effect.message
        if isinstance(message, PortGrant):
            lease = self.leases[message.session_id]
            assert effect.role is lease.role.other
            assert message.ticket == (lease.ticket if effect.role is Role.FE else "")
        else:
            self.no_secret(msgspec.json.encode(message).decode())
        if isinstance(message, PortRelease):
            lease = self.leases[message.session_id]
            assert effect.role is lease.role.other
            ports = {port for port in (message.zmq_port, message.srt_port) if port}
            assert ports <= lease.ports
            lease.ports -= ports
            if not lease.ports:
                self.ended.append((message.session_id, lease.ticket))
                del self.leases[message.session_id]

    def no_secret(self, text: str) -> None:
        assert not any(secret in text for secret in SECRETS), text

    # what must hold

    def check_links(self) -> None:
        """One session, one waiting BE and one waiting FE a port; nothing else is known."""
        waiting, paired = self.of_state("waiting"), self.of_state("paired")
        assert {self.links[n].port for n in waiting} <= set(self.ports) - self.retired
        assert set(self.room.board.links) == {*waiting, *paired}
        places = [(self.links[n].port, self.links[n].role) for n in waiting]
        assert len(set(places)) == len(places)
        busy = {pair.port for pair in self.sessions.values()}
        assert len(busy) == len({pair.be for pair in self.sessions.values()})
        assert {port.number: set(port.sessions) for port in self.room.board.ports} == {
            port: {name for name, pair in self.sessions.items() if pair.port == port}
            for port in self.ports
        }
        assert not {(port, Role.BE) for port in busy} & set(places)
        assert set(self.room.board.sessions) == set(self.sessions)
        ends = [(pair.fe, pair.be) for pair in self.sessions.values()]
        assert sorted(paired) == sorted({number for both in ends for number in both})

    def check_leases(self) -> None:
        """The table agrees with what was told; no lease outlives its rules."""
        board = self.room.board
        known = {name: lease.ports for name, lease in self.leases.items()}
        assert {x.session_id: {p.number for p in x.ports} for x in board.leases} == known
        held = [port for lease in self.leases.values() for port in lease.ports]
        assert len(set(held)) == len(held)
        busy = {pair.port for pair in self.sessions.values()}
        for lease in self.leases.values():
            assert lease.expires > self.room.now or lease.ports <= busy
        for lease in board.leases:
            owner = lease.owner
            assert owner.conn in self.conns or (owner.role is Role.BE and owner.lost)
            assert all(port.lease is lease for port in lease.ports)
        for number in self.of_state("waiting"):
            link = board.links[number]
            if link.role is Role.FE:
                assert link.lease is link.port.lease is not None

    def expected(self) -> tuple[PortState, int]:
        """What port_state should say by the model, and how many ports are reserved."""
        lists: dict[str, list[int]] = {
            f"{protocol}_{kind}": []
            for protocol in Protocol
            for kind in ("ready_ports", "empty_ports", "busy")
        }
        lists["srt_native_ready_ports"] = []
        services: dict[str, list[int]] = {}
        reserved = 0
        busy = {pair.port for pair in self.sessions.values()}
        ready, native = self.ready(), self.native()
        under = {port: lease.role for lease in self.leases.values() for port in lease.ports}
        for port, protocol in sorted(self.ports.items()):
            if port in busy:
                lists[f"{protocol}_busy"].append(port)
            elif under.get(port) is (Role.FE if port in ready else Role.BE):
                reserved += 1
            elif port not in ready:
                lists[f"{protocol}_empty_ports"].append(port)
            elif ready[port]:
                counts = services.setdefault(ready[port], [0, 0, 0])
                counts[(protocol == "srt") + (port in native)] += 1
            else:
                kind = "native_ready_ports" if port in native else "ready_ports"
                lists[f"{protocol}_{kind}"].append(port)
        said = {k: len(v) if k.endswith("busy") else tuple(v) for k, v in lists.items()}
        counts = {name: ServiceCount(*count) for name, count in services.items()}
        totals = [list(self.ports.values()).count(protocol) for protocol in ("zmq", "srt")]
        return PortState(
            zmq_total=totals[0], srt_total=totals[1], services=counts, **said
        ), reserved

    def check_state(self) -> None:
        """Ready, empty, busy and reserved are the whole pool, each port once."""
        state, (expected, reserved) = self.room.state(), self.expected()
        assert state == expected
        assert reserved == sum(port.reserved for port in self.room.board.ports)
        named = sum(sum(msgspec.structs.astuple(count)) for count in state.services.values())
        listed = [
            *state.zmq_ready_ports, *state.srt_ready_ports, *state.srt_native_ready_ports,
            *state.zmq_empty_ports, *state.srt_empty_ports,
        ]  # fmt: skip
        assert len(set(listed)) == len(listed)
        total = len(listed) + named + state.zmq_busy + state.srt_busy + reserved
        assert total == state.zmq_total + state.srt_total
        unset = msgspec.UNSET
        without = msgspec.structs.replace(state, services=unset, srt_native_ready_ports=unset)
        assert self.room.state(v11=False) == without

    def passed_through_ready(self) -> bool:
        """Whether a BE waited again and was paired at once: its port was busy, ready, busy."""
        waited = {effect.link for effect in of(self.room.effects, fx.Wait)}
        return any(effect.be in waited for effect in of(self.room.effects, fx.Pair))

    def check_pushes(self) -> None:
        """A push is due where the state is another, once, and nowhere else (section 4)."""
        state = self.room.state()
        pushes = len(of(self.room.effects, fx.StateChanged))
        if state != self.before:
            assert pushes == 1
        elif not self.passed_through_ready():
            assert pushes == 0
        self.before = state
