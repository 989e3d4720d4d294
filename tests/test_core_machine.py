"""Random events against the rules, and what must hold after each (contract sections 3 to 9).

After each event the board must agree with a model made from the effects; see test_core_model.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from relayx.core.messages import (
    KeyExchange,
    PortAcquire,
    PortAlloc,
    PortRelease,
    PortStateQuery,
    Role,
    Transport,
)
from tests.common import Room
from tests.test_core_model import OTHER_RANGES, PORTS, RANGES, Link, Model, kinds

ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2"])
IDS = st.sampled_from(["", "a", "b"])
INSTANCES = st.sampled_from(["", "", "i1", "i2"])
NAMES = st.sampled_from(["", "", "", "web"])
ROLES = st.sampled_from(list(Role))
PORT = st.sampled_from(PORTS)
BY = st.sampled_from([Transport.TCP, Transport.SRT])


class Gateway(Model, RuleBasedStateMachine):
    """Clients, connections and time, at random."""

    @initialize(
        admission=st.sampled_from(["open", "open", "open", "peer", "ticket"]),
        keep=st.booleans(),
        reaper_timeout=st.sampled_from([0.0, 3.0]),
        srt_bridge=st.booleans(),
        srt_fan_out=st.sampled_from([1, 3, 3]),
    )
    def begin(self, **rules: Any) -> None:
        self.start(Room(ports=RANGES, max_fe=3, max_be=3, **rules))
        for role, at in ((Role.FE, "192.0.2.1"), (Role.BE, "192.0.2.2"), (Role.BE, "192.0.2.1")):
            self.register(role, "a", "", at, True)

    # events

    @precondition(lambda self: len(self.conns) < 5)
    @rule(role=ROLES, client_id=IDS, instance=INSTANCES, at=ADDRESSES, v11=st.booleans())
    def register(self, role: Role, client_id: str, instance: str, at: str, v11: bool) -> None:
        protocol = "1.1" if v11 else ""
        self.room.register(
            role, client_id, instance=instance, at=at, protocol=protocol, trace_id="t"
        )
        self.check()

    @precondition(lambda self: len(self.conns) > 2)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        conn = data.draw(st.sampled_from(sorted(self.conns)))
        del self.conns[conn]
        self.room.lose(conn)
        self.check()

    @precondition(lambda self: self.conns)
    @rule(data=st.data(), both=st.booleans(), ttl=st.sampled_from([2, 10]), service=NAMES, by=BY)
    def acquire(
        self, data: st.DataObject, both: bool, ttl: int, service: str, by: Transport
    ) -> None:
        conn = data.draw(st.sampled_from(sorted(self.conns)))
        asked = PortAcquire(
            request_id="r", need_zmq=True, need_srt=both, ttl_seconds=ttl, service=service,
            be=data.draw(st.sampled_from([None, None, "a"])), transport=by,
        )  # fmt: skip
        self.ask(conn, asked)

    @precondition(lambda self: self.conns)
    @rule(data=st.data(), service=NAMES, by=BY)
    def acquire_one(self, data: st.DataObject, service: str, by: Transport) -> None:
        conn = data.draw(st.sampled_from(sorted(self.conns)))
        srt = data.draw(st.booleans())
        self.ask(conn, PortAcquire(need_zmq=not srt, need_srt=srt, service=service, transport=by))

    @precondition(lambda self: self.conns and self.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        conn = data.draw(st.sampled_from(sorted(self.conns)))
        self.ask(conn, PortRelease(session_id=data.draw(st.sampled_from(sorted(self.leases)))))

    @precondition(lambda self: self.conns)
    @rule(
        data=st.data(),
        message=st.sampled_from([
            PortStateQuery(), PortAlloc(), KeyExchange(public_key="PUB", private_key="PRIVATE"),
        ]),
    )  # fmt: skip
    def say(self, data: st.DataObject, message: Any) -> None:
        self.ask(data.draw(st.sampled_from(sorted(self.conns))), message)

    def ask(self, conn: int, message: Any) -> None:
        self.room.ask(conn, message, "m", "t")
        for effect in self.room.effects:
            assert getattr(effect, "trace_id", "t") == "t", effect
        self.check()

    @rule(port=PORT, client_id=IDS, service=NAMES, at=ADDRESSES, by=BY, publishes=st.booleans(),
          on_fe_close=st.sampled_from(["", "keep", "close"]))  # fmt: skip
    def offer(self, port: int, **said: Any) -> None:
        self.hello(Role.BE, port, said)

    @rule(port=PORT, client_id=IDS, service=NAMES, at=ADDRESSES, by=BY, data=st.data())
    def dial(self, port: int, data: st.DataObject, **said: Any) -> None:
        known = [(name, lease.ticket) for name, lease in self.leases.items()] + self.ended[-3:]
        if known and data.draw(st.booleans()):
            self.carry(data, said, *data.draw(st.sampled_from(known)))
        self.hello(Role.FE, port, said)

    @precondition(lambda self: self.ready())
    @rule(data=st.data(), at=ADDRESSES)
    def dial_a_ready_port(self, data: st.DataObject, at: str) -> None:
        port, service = data.draw(st.sampled_from(sorted(self.ready().items())))
        by = Transport.SRT if port in self.native() else Transport.TCP
        self.hello(Role.FE, port, {"client_id": "a", "service": service, "at": at, "by": by})

    @precondition(lambda self: self.watched())
    @rule(data=st.data(), at=ADDRESSES)
    def watch(self, data: st.DataObject, at: str) -> None:
        port, service = data.draw(st.sampled_from(sorted(self.watched().items())))
        self.hello(Role.FE, port, {"service": service, "at": at, "by": Transport.SRT})

    @rule(service=NAMES, at=ADDRESSES, watchers=st.integers(0, 4))
    def publish(self, service: str, at: str, watchers: int) -> None:
        said = {"service": service, "by": Transport.SRT}
        self.hello(Role.BE, 4001, {**said, "at": at, "publishes": True})
        for _ in range(watchers):
            self.hello(Role.FE, 4001, {**said, "at": "192.0.2.1"})

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), at=ADDRESSES, by=BY)
    def dial_a_leased_port(self, data: st.DataObject, at: str, by: Transport) -> None:
        name = data.draw(st.sampled_from(sorted(self.leases)))
        lease = self.leases[name]
        said = {"at": at, "service": "", "by": by}
        self.carry(data, said, name, lease.ticket)
        self.hello(Role.FE, data.draw(st.sampled_from(sorted(lease.ports))), said)

    def carry(self, data: st.DataObject, said: dict[str, Any], name: str, ticket: str) -> None:
        which = data.draw(st.sampled_from(["session_id", "ticket", "ticket", "both"]))
        said["session_id"] = name if which != "ticket" else ""
        said["ticket"] = ticket if which != "session_id" else ""

    @precondition(lambda self: set(self.ports) - self.taken())
    @rule(data=st.data(), service=NAMES, at=ADDRESSES, by=BY)
    def offer_an_empty_port(
        self, data: st.DataObject, service: str, at: str, by: Transport
    ) -> None:
        port = data.draw(st.sampled_from(sorted(set(self.ports) - self.taken())))
        self.hello(Role.BE, port, {"client_id": "a", "service": service, "at": at, "by": by})

    def hello(self, role: Role, port: int, said: dict[str, Any]) -> None:
        number = self.room.number() + 1
        by, publishes = said["by"], said.get("publishes", False)
        self.links[number] = Link(role, port, said["service"], by, publishes)
        assert self.room.hello(role, port, **said) == number
        self.check()
        assert self.links[number].state != "new"

    @precondition(lambda self: self.of_state("waiting"))
    @rule(data=st.data())
    def hang_up(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.of_state("waiting")))
        self.links[number].state = "gone"
        self.room.hang_up(number)
        self.check()

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def drains(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.sessions)))
        if self.sessions[name].keep:
            self.room.drains(name)
            self.check()

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), kept=st.booleans())
    def over(self, data: st.DataObject, kept: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.sessions)))
        self.finish(name, kept and self.sessions[name].keep)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.room.later(seconds)
        self.check()
        due = self.room.switchboard.next_due()
        assert due is None or due > self.room.now

    @precondition(lambda self: not self.stopping)
    @rule(ranges=st.sampled_from([RANGES, *OTHER_RANGES]))
    def other_ports(self, ranges: PortAlloc) -> None:
        busy = {pair.port for pair in self.sessions.values()}
        wanted = kinds(ranges)
        blocked = {p for p in busy if wanted.get(p, self.ports[p]) != self.ports[p]}
        assert set(self.room.switchboard.touched_by(ranges).blocked) == blocked
        if not blocked and ranges != self.room.rules.ports:
            self.change(ranges)

    @rule(now=st.sampled_from([*[False] * 30, True]))
    def stop(self, now: bool) -> None:
        if not now or self.stopping:
            return
        self.stopping = True
        self.room.stop()
        self.check()
        assert self.of_state("waiting") == []


EXAMPLES = 60 * int(os.environ.get("RELAYX_TEST_EXAMPLES", "1"))
"""Rounds of 50 events each; the suite's time is limited, so set more for a deep look."""


def run(machine: type[Gateway], examples: int) -> None:
    """Run a machine. What it finds is not shrunk, which takes minutes: the suite has three.

    Hypothesis prints the events; add ``Phase.shrink`` to have them made fewer.
    """
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            phases=[Phase.reuse, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


class Churn(SynchronousTestCase):
    """Random events (sections 3 to 9)."""

    def test_rules_hold(self) -> None:
        run(Gateway, EXAMPLES)
