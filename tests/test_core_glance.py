"""What libsrt's thread decides, against what the switchboard says to the same connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random
from threading import Thread
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relayx.core import effects as fx
from relayx.core.directory import Client
from relayx.core.errors import Code, PeerError
from relayx.core.glance import DIALLED, Decision, Snapshot, decide, glance, wants_dialled
from relayx.core.hello import Hello
from relayx.core.leases import Lease
from relayx.core.messages import Cause, PortAlloc, Protocol, Role, Transport
from relayx.core.policy import Policy
from relayx.core.ports import Link, Port, Session
from relayx.core.streamid import Mode, Reject, StreamId, Type, reject_of
from tests.common import BE_AT, ELSEWHERE, FE_AT, SRT, ZMQ, Room, of, refusals
from tests.test_core_machine import EXAMPLES

PORT = SRT[0]
NATIVE = Transport.SRT


class GlanceCase(SynchronousTestCase):
    """A room, and callers to its first srt port."""

    def setUp(self) -> None:
        self.enter(Room())

    def enter(self, room: Room) -> None:
        self.room = room
        self.fe, self.be = room.fe11("f"), room.be11("b")

    def glance(self) -> Snapshot:
        return glance(self.room.board, self.room.now)

    def decide(self, port: int = PORT, at: str = FE_AT, **said: Any) -> Decision:
        return decide(self.glance(), self.room.now, port, at, StreamId(**said))

    def publish(self, client_id: str = "b", **said: Any) -> int:
        return self.room.offer(PORT, client_id, **{"by": NATIVE, "publishes": True} | said)

    def admitted(self, comes_as: Role, **asked: Any) -> Decision:
        decision = self.decide(**asked)
        self.assertIsNone(decision.refusal)
        self.assertEqual((decision.hello.role, decision.reject), (comes_as, 0))
        return decision

    def refused(
        self, code: Code, reject: Reject, comes_as: Role | None = None, **asked: Any
    ) -> None:
        decision = self.decide(**asked)
        self.assertEqual((decision.refusal.code, decision.reject), (code, reject))
        self.assertTrue(decision.refusal.text)
        self.assertIs(decision.hello.role if decision.hello else None, comes_as)


class Roles(GlanceCase):
    """As what a caller comes."""

    def test_as_it_says(self) -> None:
        self.admitted(Role.BE, role=Role.BE)
        self.publish()
        self.admitted(Role.FE, role=Role.FE)

    def test_as_it_says_though_it_sends_and_receives(self) -> None:
        self.assertFalse(
            self.admitted(Role.BE, role=Role.BE, mode=Mode.BIDIRECTIONAL).way.publishes
        )

    def test_who_publishes_is_a_be(self) -> None:
        for said in ({}, {"role": Role.BE}):
            self.assertTrue(self.admitted(Role.BE, mode=Mode.PUBLISH, **said).way.publishes)

    def test_who_requests_is_an_fe(self) -> None:
        self.publish()
        for said in ({}, {"role": Role.FE}):
            self.assertFalse(self.admitted(Role.FE, mode=Mode.REQUEST, **said).way.publishes)

    def test_by_the_ports_state(self) -> None:
        for said in ({}, {"plain": "live/cam"}, {"mode": Mode.BIDIRECTIONAL}, {"client_id": "x"}):
            self.admitted(Role.BE, at=BE_AT, **said)
        self.publish()
        for said in ({}, {"plain": "live/cam"}, {"mode": Mode.BIDIRECTIONAL}, {"client_id": "x"}):
            self.admitted(Role.FE, at=BE_AT, **said)

    def test_who_names_a_lease_is_an_fe(self) -> None:
        """Though a BE is registered at its address."""
        grant = self.room.acquire(self.be, need_srt=True, transport="srt")
        for said in ({"ticket": grant.ticket}, {"session_id": grant.session_id}):
            self.admitted(Role.FE, at=BE_AT, **said)
        self.admitted(Role.BE, at=BE_AT)

    def test_an_fe_may_send_and_a_be_receive(self) -> None:
        self.admitted(Role.BE, mode=Mode.REQUEST, role=Role.BE)
        self.room.offer(PORT, "b", by=NATIVE)
        self.admitted(Role.FE, mode=Mode.PUBLISH, role=Role.FE)

    def test_two_who_publish_have_nobody_to_watch(self) -> None:
        self.publish()
        self.refused(Code.HELLO_INVALID, Reject.BAD_MODE, Role.FE, mode=Mode.PUBLISH, role=Role.FE)

    def test_buffer_mode_only_with_its_like(self) -> None:
        self.publish()
        self.refused(Code.NOT_ADMITTED, Reject.UNACCEPTABLE, Role.FE, role=Role.FE, type=Type.FILE)
        self.admitted(Role.FE, role=Role.FE, type=Type.STREAM)

    def test_what_it_says(self) -> None:
        """A BE's is about how it serves, an FE's about its lease."""
        said = {
            "client_id": "c", "service": "web", "session_id": "s", "ticket": "t",
            "on_fe_close": "keep",
        }  # fmt: skip
        self.assertEqual(
            self.decide(role=Role.BE, **said).hello,
            Hello(Role.BE, "c", "web", on_fe_close="keep"),
        )
        self.assertEqual(
            self.decide(role=Role.FE, **said).hello, Hello(Role.FE, "c", "web", "s", "t")
        )


class Refusals(GlanceCase):
    """Each with its rejection code."""

    def test_stopping(self) -> None:
        self.room.stop()
        self.refused(Code.DRAINING, Reject.OVERLOAD, Role.BE, role=Role.BE)

    def test_no_srt_port(self) -> None:
        for role in Role:
            self.refused(Code.DRAINING, Reject.NOT_FOUND, role, port=1, role=role)
            self.refused(Code.NOT_ADMITTED, Reject.UNACCEPTABLE, role, port=ZMQ[0], role=role)

    def test_retired(self) -> None:
        self.publish()
        self.room.dial(PORT, by=NATIVE)
        self.room.change_rules(ports=PortAlloc(srt_start_port=SRT[1], srt_end_port=SRT[1]))
        self.refused(Code.DRAINING, Reject.NOT_FOUND, Role.FE)
        self.refused(Code.TTL_EXPIRED, Reject.NOT_FOUND, Role.FE, ticket="t")

    def test_source(self) -> None:
        self.enter(Room(admission="peer"))
        self.refused(Code.NOT_ADMITTED, Reject.UNAUTHORIZED, Role.BE, at=ELSEWHERE)
        self.publish()
        self.refused(Code.NOT_ADMITTED, Reject.UNAUTHORIZED, Role.FE, at=ELSEWHERE)
        self.admitted(Role.FE)

    def test_an_address_that_counts_no_more(self) -> None:
        """The snapshot is older than that."""
        self.enter(Room(admission="peer", reaper_timeout=5.0))
        self.glance()
        self.room.lose(self.be)
        snapshot, asked = self.glance(), StreamId(role=Role.BE)
        begun = self.room.now
        self.assertIsNone(decide(snapshot, begun + 4.9, PORT, BE_AT, asked).refusal)
        self.assertEqual(decide(snapshot, begun + 5, PORT, BE_AT, asked).reject, 1401)

    def test_no_ticket(self) -> None:
        self.enter(Room(admission="ticket"))
        self.publish()
        self.refused(Code.NOT_ADMITTED, Reject.UNAUTHORIZED, Role.FE)
        grant = self.room.acquire(self.fe, need_srt=True, transport="srt")
        self.admitted(Role.FE, ticket=grant.ticket)

    def test_policy(self) -> None:
        self.enter(Room(Policy(match="b", protocols=(Protocol.ZMQ,))))
        self.refused(Code.NOT_ADMITTED, Reject.FORBIDDEN, Role.BE, client_id="b", at=BE_AT)

    def test_wrong_transport(self) -> None:
        self.room.offer(PORT)
        self.refused(Code.NOT_ADMITTED, Reject.UNACCEPTABLE, Role.FE)
        self.room.change_rules(srt_bridge=True)
        self.admitted(Role.FE)

    def test_unknown_lease(self) -> None:
        for said in ({"ticket": "x"}, {"session_id": "x"}):
            self.refused(Code.NOT_ADMITTED, Reject.NOT_FOUND, Role.FE, **said)

    def test_ended_lease(self) -> None:
        grant = self.room.acquire(self.be, need_srt=True, transport="srt")
        self.room.release(self.be, grant.session_id)
        self.refused(Code.TTL_EXPIRED, Reject.NOT_FOUND, Role.FE, ticket=grant.ticket)

    def test_another_service(self) -> None:
        self.publish(service="web")
        self.refused(Code.NOT_ADMITTED, Reject.NOT_FOUND, Role.FE)
        self.admitted(Role.FE, service="web")

    def test_busy(self) -> None:
        self.publish()
        self.refused(Code.PORT_BUSY, Reject.CONFLICT, Role.BE, mode=Mode.PUBLISH)
        self.room.dial(PORT, by=NATIVE)
        self.refused(Code.PORT_BUSY, Reject.CONFLICT, Role.FE)
        self.refused(Code.PORT_BUSY, Reject.CONFLICT, Role.BE, mode=Mode.PUBLISH)

    def test_a_publisher_comes_again(self) -> None:
        """It takes the place of its own connection, as over TCP (section 6)."""
        self.publish()
        self.admitted(Role.BE, at=BE_AT, client_id="b", mode=Mode.PUBLISH)

    def test_reserved(self) -> None:
        self.publish()
        self.room.acquire(self.fe, need_srt=True, transport="srt")
        self.refused(Code.PORT_RESERVED, Reject.FORBIDDEN, Role.FE, at=ELSEWHERE)
        self.admitted(Role.FE)

    def test_empty(self) -> None:
        self.refused(Code.PORT_EMPTY, Reject.NOT_FOUND, Role.FE, mode=Mode.REQUEST)

    def test_it_may_wait(self) -> None:
        self.room.acquire(self.be, need_srt=True, transport="srt")
        self.admitted(Role.FE)
        self.room.dial(PORT, by=NATIVE)
        self.refused(Code.PORT_BUSY, Reject.CONFLICT, Role.FE)

    def test_fan_out(self) -> None:
        self.enter(Room(srt_fan_out=2))
        self.publish()
        self.room.dial(PORT, by=NATIVE)
        self.admitted(Role.FE, mode=Mode.REQUEST)
        self.room.dial(PORT, by=NATIVE)
        self.refused(Code.PORT_BUSY, Reject.CONFLICT, Role.FE)


class Dialled(GlanceCase):
    """Whether a peer that the gateway calls itself is of use, and would be let in."""

    def wants(self, role: Role, at: str = ELSEWHERE, port: int = PORT) -> bool:
        return wants_dialled(self.glance(), self.room.now, port, at, role)

    def refuses(self, code: Code, role: Role) -> None:
        """The rules say so, and so they do when it comes."""
        refusal = self.assertRaises(PeerError, self.wants, role)
        self.assertEqual(refusal.code, code)
        self.assertTrue(self.wants(role, at=""))  # not asked where the address is not known
        board = self.room.board
        came = self.room.switchboard.hello(
            self.room.now, 999, PORT, ELSEWHERE, Hello(role), DIALLED
        )
        self.assertEqual([effect.code for effect in of(came, fx.Refuse)], [code])
        self.assertNotIn(999, board.links)

    def test_by_the_ports_state(self) -> None:
        self.enter(Room(admission="ticket"))  # which a dialled one is not asked for
        self.assertEqual((self.wants(Role.BE), self.wants(Role.FE)), (True, False))
        self.room.offer(PORT, "b", by=NATIVE)
        self.assertEqual((self.wants(Role.BE), self.wants(Role.FE)), (False, True))
        grant = self.room.acquire(self.fe, need_srt=True, transport="srt")
        self.room.dial(PORT, "f", by=NATIVE, ticket=grant.ticket)
        self.assertEqual((self.wants(Role.BE), self.wants(Role.FE)), (False, False))

    def test_no_port(self) -> None:
        self.assertFalse(self.wants(Role.BE, port=1))
        self.room.stop()
        self.assertFalse(self.wants(Role.BE))

    def test_be_by_tcp(self) -> None:
        self.room.offer(PORT)
        self.refuses(Code.NOT_ADMITTED, Role.FE)
        self.room.change_rules(srt_bridge=True)
        self.assertTrue(self.wants(Role.FE))

    def test_lease_of_another_be(self) -> None:
        grant = self.room.acquire(self.be, need_srt=True, transport="srt")
        self.refuses(Code.PORT_RESERVED, Role.BE)
        self.assertTrue(self.wants(Role.BE, at=BE_AT))
        self.room.release(self.be, grant.session_id)
        self.assertTrue(self.wants(Role.BE))

    def test_lease_of_an_fe(self) -> None:
        self.publish()
        self.room.acquire(self.fe, need_srt=True, transport="srt")
        self.refuses(Code.PORT_RESERVED, Role.FE)
        self.assertTrue(self.wants(Role.FE, at=FE_AT))


class Copies(GlanceCase):
    """A snapshot is of its moment, whatever happens after."""

    def crowd(self) -> Snapshot:
        """A port with a lease and sessions, and one with another lease and an FE that waits."""
        self.enter(Room(srt_fan_out=3, admission="peer"))
        self.publish()
        self.room.acquire(self.fe, need_srt=True, transport="srt", ttl_seconds=5)
        self.room.acquire(self.be, need_srt=True, transport="srt", ttl_seconds=5)
        for _ in range(2):
            self.room.dial(PORT, by=NATIVE)
        self.room.dial(SRT[1], by=NATIVE)
        return self.glance()

    def test_nothing_is_the_boards(self) -> None:
        snapshot = self.crowd()
        kinds = (Port, Link, Lease, Session, Client)
        board = self.room.board
        live = [one for one in reached((board.ports, board.roster)) if isinstance(one, kinds)]
        seen = [one for one in reached(snapshot) if isinstance(one, kinds)]
        self.assertEqual({type(one) for one in live}, set(kinds))
        self.assertEqual({type(one) for one in seen}, set(kinds))
        self.assertEqual({id(one) for one in seen} & {id(one) for one in live}, set())

    def test_of_its_moment(self) -> None:
        snapshot, then = self.crowd(), self.room.now
        self.assertEqual(snapshot.taken, then)

        def decisions(seen: Snapshot) -> list[object]:
            found = [
                decide(seen, then, port, at, StreamId(role=role, mode=mode))
                for port in SRT
                for at in (FE_AT, BE_AT, ELSEWHERE)
                for role in (None, *Role)
                for mode in (None, *Mode)
            ]
            return [(d.hello, d.way, d.reject, str(d.refusal)) for d in found]

        before = decisions(snapshot)
        for name in list(self.room.board.sessions):
            self.room.drains(name)
            self.room.over(name)
        for conn in (self.fe, self.be):
            self.room.lose(conn)
        self.room.later(60)
        self.room.change_rules(srt_fan_out=1, admission="open")
        self.room.stop()
        self.assertEqual(decisions(snapshot), before)
        self.assertNotEqual(decisions(self.glance()), before)

    def test_another_thread(self) -> None:
        """Decisions go on while the board changes."""
        self.crowd()
        newest = [self.glance()]
        running, faults, made = [True], [], Counter()

        def ask() -> None:
            try:
                while running or not made["rounds"]:
                    for role in (None, *Role):
                        decision = decide(
                            newest[0], self.room.now, PORT, FE_AT, StreamId(role=role)
                        )
                        made[decision.reject] += 1
                    made["rounds"] += 1
            except Exception as error:
                faults.append(error)

        thread = Thread(target=ask)
        thread.start()
        for _ in range(300):
            self.room.register("FE", "g", at=ELSEWHERE)
            for name in list(self.room.board.sessions):
                self.room.over(name)
            newest[0] = self.glance()
            self.publish()
            self.room.dial(PORT, by=NATIVE)
            newest[0] = self.glance()
        running.clear()
        thread.join(30)
        self.assertFalse(thread.is_alive())
        self.assertEqual(faults, [])
        self.assertGreater(made["rounds"], 0)

    def test_no_cycle(self) -> None:
        """An old snapshot is freed at once: no part of it reaches a port again."""
        for port in self.crowd().ports.values():
            self.assertNotIn(id(port), [id(one) for one in reached(list(parts(port)))])


def parts(one: Any) -> Iterator[Any]:
    """What an object of ours consists of."""
    if isinstance(one, dict):
        yield from one.keys()
        yield from one.values()
    elif isinstance(one, (list, tuple, set)) or hasattr(one, "maxlen"):
        yield from one
    elif type(one).__module__.startswith("relayx."):
        slots = [n for kind in type(one).__mro__ for n in getattr(kind, "__slots__", ())]
        names = [*slots, *getattr(one, "__struct_fields__", ()), *getattr(one, "__dict__", ())]
        yield from (getattr(one, name) for name in names if name not in ("what", "_copy"))


def reached(one: Any) -> list[Any]:
    """Everything that can be got at from an object."""
    found: dict[int, Any] = {}
    todo = [one]
    while todo:
        following = todo.pop()
        if id(following) not in found:
            found[id(following)] = following
            todo += parts(following)
    return list(found.values())


class Crossing:
    """A room at random: events of every kind, and between them SRT callers of every kind.

    :ivar outcomes: how often each was decided, and agreed upon.
    """

    ranges = (
        PortAlloc(zmq_start_port=3001, zmq_end_port=3002, srt_start_port=4001, srt_end_port=4002),
        PortAlloc(zmq_start_port=3001, zmq_end_port=3001, srt_start_port=4002, srt_end_port=4003),
    )
    places = (FE_AT, BE_AT, ELSEWHERE)
    outcomes: Counter[Reject | str | None]

    def __init__(self, seed: int, outcomes: Counter[Reject | str | None]) -> None:
        self.random = Random(seed)
        self.outcomes = outcomes
        pick = self.random.choice
        policies = [Policy(match="c", protocols=(Protocol.ZMQ,))] if pick([True, False]) else []
        self.room = Room(
            *policies,
            ports=self.ranges[0],
            admission=pick(["open", "open", "peer", "ticket"]),
            srt_bridge=pick([True, False]),
            srt_fan_out=pick([1, 3, 3]),
            reaper_timeout=pick([0.0, 5.0]),
            keep=pick([True, False]),
        )
        self.tickets: list[tuple[str, str]] = []
        self.conns: list[int] = []
        for role, at in (("FE", FE_AT), ("BE", BE_AT)):
            self.conns.append(self.room.register(role, "a", at=at, protocol="1.1"))

    def run(self, steps: int) -> None:
        events = [
            self.register, self.lose, self.acquire, self.acquire, self.acquire, self.release,
            self.come, self.come, self.hang_up, self.over, self.drains, self.later, self.rules,
            self.end, self.stop,
        ]  # fmt: skip
        for _ in range(steps):
            self.random.choice(events)()
            for _ in range(3):
                self.call()

    # events

    def register(self) -> None:
        pick = self.random.choice
        self.conns.append(
            self.room.register(
                pick(["FE", "BE"]), pick("abc"), at=pick(self.places), protocol=pick(["", "1.1"]),
                instance=pick(["", "", "i", "j"]),
            )
        )  # fmt: skip

    def lose(self) -> None:
        if len(self.conns) > 3:
            self.room.lose(self.conns.pop(self.random.randrange(len(self.conns))))

    def acquire(self) -> None:
        pick = self.random.choice
        conn = pick(self.conns)
        if self.room.switchboard.client(conn) is None:
            return
        grant = self.room.acquire(
            conn, need_srt=True, transport=pick(["tcp", "srt", "srt"]), service=pick(["", "", "w"]),
            ttl_seconds=pick([2, 60]), be=pick([None, None, "a"]),
        )  # fmt: skip
        if grant.session_id:
            self.tickets.append((grant.session_id, grant.ticket))

    def release(self) -> None:
        for lease in list(self.room.board.leases)[:1]:
            self.room.release(lease.owner.conn, lease.session_id)

    def come(self) -> None:
        """By TCP, or a BE that publishes."""
        pick = self.random.choice
        role, by = pick([(Role.FE, Transport.TCP), (Role.BE, Transport.TCP), (Role.BE, NATIVE)])
        self.room.hello(
            role, pick([4001, 4002]), pick("abc"), at=pick(self.places), by=by,
            publishes=by is NATIVE, service=pick(["", "", "w"]),
        )  # fmt: skip

    def hang_up(self) -> None:
        for link in self.room.board.waiting()[:1]:
            self.room.hang_up(link.id)

    def session(self) -> str:
        return self.random.choice([*self.room.board.sessions, ""])

    def over(self) -> None:
        self.room.over(self.session(), kept=self.random.choice([True, False]))

    def drains(self) -> None:
        self.room.drains(self.session())

    def end(self) -> None:
        self.room.switchboard.end_session(self.session(), Cause.ADMIN)

    def later(self) -> None:
        self.room.later(self.random.choice([0.5, 3]))

    def rules(self) -> None:
        pick = self.random.choice
        ranges = pick(self.ranges)
        if not self.room.switchboard.touched_by(ranges).blocked:
            self.room.change_rules(ports=ranges, srt_bridge=pick([True, False]))

    def stop(self) -> None:
        if self.random.random() < 0.03:
            self.room.stop()

    # callers

    def call(self) -> None:
        """One caller; what is decided is what the switchboard says, in the same words."""
        pick, room = self.random.choice, self.room
        port, at = pick([4001, 4001, 4001, 4002, 4003, 3001, 5]), pick(self.places)
        asked = self.stream_id()
        decision = decide(glance(room.board, room.now), room.now, port, at, asked)
        link = room.number()
        room.did(
            room.switchboard.hello(
                room.now, link, port, at, decision.hello, decision.way
            )
        )  # fmt: skip
        refused = [effect for effect in of(room.effects, fx.Refuse) if effect.link == link]
        if decision.refusal is None:
            assert decision.reject == 0
            assert refused == [], (asked, refused)
            waits = fx.Wait(link) in room.effects
            pair = [pair for pair in of(room.effects, fx.Pair) if link in (pair.fe, pair.be)]
            assert waits or pair, (asked, room.effects)
            joined = bool(pair) and len(room.board.ports[port].sessions) > 1
            alone = "pairs" if pair else f"{decision.hello.role} waits"
            self.outcomes["joins" if joined else alone] += 1
        else:
            assert decision.reject == reject_of(decision.refusal)
            assert refusals(room.effects) == [(link, decision.refusal.code)], (asked, decision)
            assert refused[0].text == decision.refusal.text
            self.outcomes[Reject(decision.reject)] += 1
            self.outcomes[decision.refusal.code] += 1

    def stream_id(self) -> StreamId:
        pick = self.random.choice
        session_id, ticket = pick([*self.tickets[-3:], ("sess-0", "TICKET-0")])
        named = pick(["", "", "", "", "ticket", "session_id", "both"])
        return StreamId(
            client_id=pick(["", "a", "b", "c"]),
            service=pick(["", "", "", "w"]),
            mode=pick([None, *Mode, Mode.PUBLISH, Mode.REQUEST, Mode.REQUEST]),
            role=pick([None, None, None, *Role]),
            ticket=ticket if named in ("ticket", "both") else "",
            session_id=session_id if named in ("session_id", "both") else "",
            on_fe_close=pick(["", "keep", "close"]),
        )


class Agreement(SynchronousTestCase):
    """Random states, random callers."""

    outcomes: Counter[Reject | str | None] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.explicit, Phase.generate])
    @given(st.integers(0, 2**64))
    def agree(self, seed: int) -> None:
        Crossing(seed, self.outcomes).run(40)

    def test_as_the_switchboard(self) -> None:
        """Every outcome there is was decided, and said by the switchboard."""
        self.agree()
        rejects = set(Reject) - {Reject.BAD_REQUEST, Reject.BAD_MODE}
        codes = {
            Code.DRAINING, Code.NOT_ADMITTED, Code.TTL_EXPIRED, Code.PORT_BUSY,
            Code.PORT_RESERVED, Code.PORT_EMPTY,
        }  # fmt: skip
        wanted = {*rejects, *codes, "joins", "pairs", "FE waits", "BE waits"}
        self.assertEqual(wanted - set(self.outcomes), set(), self.outcomes)
