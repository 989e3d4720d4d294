"""Brokers of a gateway, by its configuration: who meets, who may come, what is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from twisted.trial.unittest import TestCase

from relayx import brokering
from relayx.admin import model
from relayx.cli.topview import Seen, screen
from relayx.security import curve, keyring, secrethash
from relayx.zmq.errors import BrokerError
from tests.admin_peer import change, get, until
from tests.live import NEVER, SECRET
from tests.relayx_process import run_relayx
from tests.reloading import in_the_reactor
from tests.scrapes import scrape_of
from tests.zmq_gateway import BROKERS, LONGEST, NO_ZMQ, Brokered, brokered

if NO_ZMQ is None:
    import zmq

    from relayx.zmq import broker as zmq_broker

HTTP = {"endpoint": "tcp:0:interface={host}"}
OWN = "a secret of a client's own, which is long"
PUSHED = {"pattern": "push_pull"}


class BrokerCase(TestCase):
    """Skipped without pyzmq."""

    skip = NO_ZMQ


class Meeting(BrokerCase):
    """Every pattern, many and many"""

    @brokered(*BROKERS)
    def test_push_pull(self, gateway: Brokered) -> None:
        """Each message comes to one of three PULLs, each once."""
        pulls = [gateway.meeting.connect("PULL") for _ in range(3)]
        pushes = [gateway.meeting.connect("PUSH") for _ in range(3)]
        for number in range(300):
            pushes[number % 3].send_multipart([b"%d" % number, b"", b"x" * number])
        pulled: list[list[bytes]] = []
        while len(pulled) < 300:
            ready, _, _ = zmq.select(pulls, [], [], LONGEST / 1000)
            self.assertTrue(ready, "nothing comes")
            pulled += [pull.recv_multipart() for pull in ready]
        self.assertEqual(len(pulled), 300)
        self.assertEqual({int(parts[0]) for parts in pulled}, set(range(300)))
        for number, empty, rest in pulled:
            self.assertEqual((empty, len(rest)), (b"", int(number)))

    @brokered(*BROKERS)
    def test_pub_sub(self, gateway: Brokered) -> None:
        """Every SUB gets what it subscribed to, of every PUB."""
        subs = [gateway.meeting.connect("SUB", 1) for _ in range(2)]
        subs[0].subscribe(b"")
        subs[1].subscribe(b"b")
        pubs = [gateway.meeting.socket("XPUB") for _ in range(2)]
        for pub in pubs:
            pub.connect(f"tcp://{gateway.host}:{gateway.zmq[2]}")
            self.assertEqual({pub.recv(), pub.recv()}, {b"\x01", b"\x01b"})
        for number, pub in enumerate(pubs):
            pub.send(b"a%d" % number)
            pub.send(b"b%d" % number)
        self.assertEqual({subs[0].recv() for _ in range(4)}, {b"a0", b"b0", b"a1", b"b1"})
        self.assertEqual({subs[1].recv() for _ in range(2)}, {b"b0", b"b1"})

    @brokered(*BROKERS)
    def test_req_rep(self, gateway: Brokered) -> None:
        """Each REQ gets the answers to its own questions, of two REPs."""
        gateway.background(_answer, 60, *(gateway.meeting.connect("REP", 2) for _ in range(2)))
        reqs = [gateway.meeting.connect("REQ", 2) for _ in range(3)]
        for turn in range(20):
            for number, req in enumerate(reqs):
                req.send(b"%d of %d" % (turn, number))
            for number, req in enumerate(reqs):
                self.assertEqual(req.recv(), b"re: %d of %d" % (turn, number))

    @brokered(PUSHED)
    def test_others(self, gateway: Brokered) -> None:
        """The zmq ports that no broker has are as they always were."""
        fe, be = gateway.pair(gateway.free[0])
        fe.send(b"as before")
        self.assertEqual(be.receive(9), b"as before")
        self.assertEqual(gateway.service.data.data.listening, set(gateway.free))


def _answer(count: int, *reps: Any) -> None:
    """So many questions, whichever of these each comes to."""
    for _ in range(count):
        (rep, *_), _, _ = zmq.select(list(reps), [], [], LONGEST / 1000)
        rep.send(b"re: " + rep.recv())


class Admission(BrokerCase):
    """data.admission"""

    @brokered(PUSHED, data={"admission": "peer"}, relay={"reaper_timeout": 0.0})
    def test_peer(self, gateway: Brokered) -> None:
        """From the address of a registered client of either role, and no other."""
        for role, here in (("FE", "127.0.0.3"), ("BE", "127.0.0.4")):
            self.assertFalse(gateway.meeting.admitted("PUSH", source=here))
            self.assertFalse(gateway.meeting.admitted("PULL", source=here))
            client = gateway.control(source=here)
            client.register(role, SECRET, "c")
            self.assertTrue(gateway.meeting.admitted("PUSH", source=here))
            self.assertTrue(gateway.meeting.admitted("PULL", source=here))
        self.assertFalse(gateway.meeting.admitted("PUSH", source="127.0.0.5"))

    @brokered(PUSHED)
    def test_open(self, gateway: Brokered) -> None:
        self.assertTrue(gateway.meeting.admitted("PUSH", source="127.0.0.5"))

    @brokered({**PUSHED, "security": "plain"}, data={"admission": "ticket"})
    def test_ticket(self, gateway: Brokered) -> None:
        """PLAIN admits, whoever is registered."""
        plain = {"plain_username": b"c", "plain_password": SECRET.encode()}
        self.assertTrue(gateway.meeting.admitted("PUSH", **plain))
        self.assertFalse(gateway.meeting.admitted("PUSH", **{**plain, "plain_password": b"no"}))
        text = gateway.refused(zmq={"brokers": [{**PUSHED, "frontend": gateway.zmq[0],
                                                 "backend": gateway.zmq[1]}]})  # fmt: skip
        self.assertIn("data.admission is ticket", text)

    @brokered(PUSHED, data={"admission": "peer"})
    def test_reload(self, gateway: Brokered) -> None:
        """Another admission holds at once."""
        self.assertFalse(gateway.meeting.admitted("PUSH", source="127.0.0.5"))
        gateway.reload(data={"admission": "open"})
        self.assertTrue(gateway.meeting.admitted("PUSH", source="127.0.0.5"))


POLICIES = [
    {"match": "own", "secret_hash": str(secrethash.make(OWN))},
    {"match": "srt-*", "protocols": ["srt"]},
]


class Plain(BrokerCase):
    """PLAIN by the gateway's secrets and policies"""

    def admitted(self, gateway: Brokered, name: str, password: str, **more: Any) -> bool:
        return gateway.meeting.admitted(
            "PUSH", plain_username=name.encode(), plain_password=password.encode(), **more
        )

    @brokered({**PUSHED, "security": "plain"}, clients=POLICIES)
    def test_secrets(self, gateway: Brokered) -> None:
        """The gateway's for most, its own for one, and none for who may not use zmq ports."""
        for name, password, good in (
            ("anybody", SECRET, True), ("anybody", "wrong", False), ("anybody", OWN, False),
            ("own", OWN, True), ("own", SECRET, False), ("srt-1", SECRET, False),
            ("c" * 129, SECRET, False),
        ):  # fmt: skip
            self.assertIs(self.admitted(gateway, name, password), good, name)
        self.assertFalse(gateway.meeting.admitted("PUSH"))

    @brokered({**PUSHED, "security": "plain"}, clients=POLICIES)
    def test_reload(self, gateway: Brokered) -> None:
        """Other secrets and policies hold for the next who comes, and nobody is dropped."""
        push = gateway.meeting.connect("PUSH", plain_username=b"c", plain_password=SECRET.encode())
        pull = gateway.meeting.connect("PULL", plain_username=b"c", plain_password=SECRET.encode())
        push.send(b"before")
        self.assertEqual(pull.recv(), b"before")
        other = "another secret of more than 32 bytes, by far"
        gateway.reload(secrets={"auth_secret": other})
        self.assertFalse(self.admitted(gateway, "c", SECRET))
        self.assertTrue(self.admitted(gateway, "c", other))
        push.send(b"after")
        self.assertEqual(pull.recv(), b"after")
        gateway.reload(secrets={"auth_secret": other}, clients=[])
        self.assertTrue(self.admitted(gateway, "srt-1", other))

    @brokered(
        {**PUSHED, "security": "plain"},
        limits={"failures_per_minute": 3, "failure_block": "1h"}, http=HTTP,
    )  # fmt: skip
    def test_blocked(self, gateway: Brokered) -> None:
        """Failures count with those of registrations, by where they come from."""
        for _ in range(3):
            self.assertFalse(self.admitted(gateway, "c", "wrong", source="127.0.0.3"))
        self.assertFalse(self.admitted(gateway, "c", SECRET, source="127.0.0.3"))
        self.assertTrue(self.admitted(gateway, "c", SECRET, source="127.0.0.4"))
        refused = gateway.control(source="127.0.0.3").register("FE", SECRET)
        self.assertEqual(refused["error_code"], "RATE_LIMITED")
        events = in_the_reactor(gateway.service.admin.recent_events)
        texts = [event.text for event in events if event.event == "broker_refused"]
        self.assertEqual(len(texts), 2)  # once a minute for each reason
        self.assertIn("password is wrong", texts[0])
        self.assertIn("too many failures", texts[1])
        self.assertNotIn('wrong"', " ".join(texts))


def _keys(directory: Path) -> None:
    for folder, kid in (("keys", "broker"), ("clients", "one")):
        (directory / folder).mkdir()
        keyring.add_curve(str(directory / folder), 0.0, kid)


CURVED = {**PUSHED, "security": "curve", "curve_key": "broker"}


class Curve(BrokerCase):
    """CURVE by keys of directories"""

    def options(self, gateway: Brokered, pair: curve.CurvePair, server: str = "") -> Any:
        keys = str(gateway.config.parent / "keys")
        return {
            "curve_publickey": pair.public.encode(),
            "curve_secretkey": pair.secret.encode(),
            "curve_serverkey": (server or curve.read_public(keys, "broker")).encode(),
        }

    @brokered(CURVED, prepare=_keys, security={"keys": "{dir}/keys"})
    def test_any(self, gateway: Brokered) -> None:
        """Any client's key with the right server's; not with another, nor without."""
        pair, other = curve.generate_pair(), curve.generate_pair()
        for kind in ("PUSH", "PULL"):
            admitted = gateway.meeting.admitted
            self.assertTrue(admitted(kind, **self.options(gateway, pair)))
            self.assertFalse(admitted(kind, **self.options(gateway, pair, other.public)))
            self.assertFalse(admitted(kind))

    @brokered(
        {**CURVED, "curve_clients": "{dir}/clients"},
        prepare=_keys, security={"keys": "{dir}/keys"},
    )  # fmt: skip
    def test_listed(self, gateway: Brokered) -> None:
        """Keys of the directory alone, and what a reload finds there."""
        clients = str(gateway.config.parent / "clients")
        listed, other = curve.read_pair(clients, "one"), curve.generate_pair()
        admitted = gateway.meeting.admitted
        self.assertTrue(admitted("PUSH", **self.options(gateway, listed)))
        self.assertFalse(admitted("PUSH", **self.options(gateway, other)))
        Path(clients, "two.curve-pub").write_text(other.public)
        impact = gateway.reload()
        self.assertEqual([change.key for change in impact.changes], ["zmq.brokers"])
        self.assertEqual(impact.restart, ())
        self.assertTrue(admitted("PUSH", **self.options(gateway, other)))
        Path(clients, "two.curve-pub").write_text("no key")
        self.assertIn("holds no CURVE key", gateway.refused())
        self.assertTrue(admitted("PUSH", **self.options(gateway, other)))


class Control(BrokerCase):
    """port_state and port_acquire"""

    @brokered(PUSHED)
    def test_state(self, gateway: Brokered) -> None:
        """1.1 clients are told of brokers and of who comes; v1 clients of nothing."""
        fe, old = gateway.fe11(), gateway.fe()
        state = fe.state()
        expected = {
            "pattern": "push_pull", "frontend": gateway.zmq[0], "backend": gateway.zmq[1],
            "clients_frontend": 0, "clients_backend": 0,
        }  # fmt: skip
        self.assertEqual(state["brokers"], [expected])
        self.assertEqual((state["zmq_total"], state["zmq_empty_ports"]), (4, gateway.free))
        self.assertNotIn("brokers", old.state())
        gateway.meeting.connect("PULL")
        gateway.meeting.connect("PULL")
        push = gateway.meeting.connect("PUSH")
        found = {**expected, "clients_frontend": 1, "clients_backend": 2}
        fe.state(lambda state: state["brokers"] == [found])
        push.close()
        found["clients_frontend"] = 0
        fe.state(lambda state: state["brokers"] == [found])

    @brokered(PUSHED)
    def test_acquire(self, gateway: Brokered) -> None:
        """A port to connect to, for any number; plain leases get others."""
        clients = [gateway.fe11(), gateway.fe11(), gateway.be11()]
        for client, port in zip(clients, (0, 0, 1), strict=True):
            grant = client.acquire(broker="push_pull", need_zmq=False)
            self.assertEqual(grant["zmq_port"], gateway.zmq[port])
        plain = [clients[2].acquire() for _ in range(3)]
        self.assertEqual([grant.get("zmq_port") for grant in plain], [*gateway.free, None])

    @brokered(PUSHED)
    def test_hello(self, gateway: Brokered) -> None:
        """Who says HELLO to libzmq is not understood, and harms nobody."""
        link = gateway.dial(gateway.zmq[0])
        link.hello("FE")
        self.assertIn(link.rest()[1], ("end", "reset"))
        push, pull = gateway.meeting.connect("PUSH"), gateway.meeting.connect("PULL")
        push.send(b"still here")
        self.assertEqual(pull.recv(), b"still here")


class Numbers(BrokerCase):
    """Metrics, the admin API, commands"""

    def setUp(self) -> None:
        self.patch(zmq_broker, "ANSWER_WITHIN", 30.0)  # a late answer gives old counts

    @brokered(*BROKERS, http=HTTP)
    def test_counted(self, gateway: Brokered) -> None:
        """What went through, by pattern, side and direction; how long answers took."""
        push, pull = gateway.meeting.connect("PUSH"), gateway.meeting.connect("PULL")
        for _ in range(10):
            push.send(bytes(100))
        for _ in range(10):
            pull.recv()
        gateway.background(_answer, 5, gateway.meeting.connect("REP", 2))
        req = gateway.meeting.connect("REQ", 2)
        for _ in range(5):
            req.send(b"?")
            req.recv()
        self.assertFalse(gateway.meeting.admitted("PUSH", plain_username=b"c", plain_password=b"p"))

        def moved(side: str, direction: str, what: str = "parts") -> float:
            labels = {"pattern": "push_pull", "side": side, "direction": direction}
            return scrape_of(gateway).of(f"relayx_broker_{what}_total", **labels)

        until(lambda: moved("backend", "sent") == 10)
        self.assertEqual(moved("frontend", "received"), 10)
        self.assertEqual(moved("frontend", "received", "bytes"), 1000)
        self.assertEqual(moved("backend", "received"), 0)

        def come() -> list[float]:
            """Connections that there have been, those that are open, handshakes that failed."""
            found, sides = scrape_of(gateway), ("frontend", "backend")
            live, failed = "relayx_broker_connections", "relayx_broker_handshake_failures_total"
            return [
                *(found.of("zmq_conn_total", role=side) for side in sides),
                *(found.of(live, pattern="push_pull", side=side) for side in sides),
                sum(
                    found.of(failed, pattern="push_pull", reason=reason)
                    for reason in ("auth", "protocol", "no_detail")
                ),
            ]

        until(lambda: come() == [2, 2, 1, 1, 1])
        found = scrape_of(gateway)
        self.assertEqual(found.of("zmq_msg_duration_seconds_count", pattern="req_rep"), 5)
        labels = {"pattern": "req_rep", "le": "+Inf"}
        self.assertEqual(found.of("zmq_msg_duration_seconds_bucket", **labels), 5)
        states = [
            found.of("relayx_brokers", pattern="push_pull", state=state)
            for state in ("running", "stalled", "ended")
        ]
        self.assertEqual(states, [1, 0, 0])
        self.assertEqual(found.of("relay_port_state", protocol="zmq", state="ready"), 6)

        page = msgspec.json.decode(
            get(gateway, "/api/v1/brokers?limit=2").body, type=model.Page[model.Broker]
        )
        self.assertEqual((len(page.items), page.total), (2, 3))
        broker = page.items[0]
        self.assertEqual((broker.pattern, broker.state, broker.security),
                         ("push_pull", model.BrokerState.RUNNING, "null"))  # fmt: skip
        self.assertEqual((broker.frontend.port, broker.frontend.connections), (gateway.zmq[0], 1))
        self.assertEqual(broker.frontend.received, model.Moved(parts=10, bytes=1000))
        self.assertEqual(sum(broker.handshake_failures.values()), 1)
        self.assertEqual(broker.answers, 0)
        status = msgspec.json.decode(get(gateway, "/api/v1/status").body, type=model.Status)
        self.assertEqual(status.brokers[2].answers, 5)
        self.assertGreater(status.brokers[2].answer_seconds, 0)
        ports = json.loads(get(gateway, "/api/v1/ports?state=ready").body)
        self.assertEqual([port["port"] for port in ports["items"]], gateway.zmq[:6])
        shown = screen(
            Seen(status, model.Page(items=(), total=0, limit=1, offset=0),
                 model.History(interval=5.0, points=())), "http://here", 5
        )  # fmt: skip
        self.assertIn(f"{gateway.zmq[0]}/{gateway.zmq[1]}", _text(shown))

    @brokered(PUSHED)
    def test_status(self, gateway: Brokered) -> None:
        """relayx status: a broker's ports are ready, and a table says of which."""
        told = run_relayx("status", "--json", gateway=gateway.host)
        found = json.loads(told.stdout)
        self.assertEqual(found["ports"]["zmq"]["ready"], 2)
        self.assertEqual(found["ports"]["zmq"]["reserved"], 0)
        self.assertEqual(found["brokers"][0]["frontend"], gateway.zmq[0])
        told = run_relayx("status", gateway=gateway.host)
        self.assertIn(b"push_pull", told.stdout)

    @brokered({**PUSHED, "sndhwm": 1, "rcvhwm": 0}, http=HTTP)
    def test_stalled(self, gateway: Brokered) -> None:
        """A backend that takes nothing is told of."""
        self.patch(zmq_broker, "ANSWER_WITHIN", 1.0)
        gateway.meeting.connect("PULL", rcvhwm=1)
        push = gateway.meeting.connect("PUSH", sndhwm=0)
        for _ in range(300):
            push.send(bytes(200_000))

        def state() -> str:
            return str(json.loads(get(gateway, "/api/v1/brokers").body)["items"][0]["state"])

        until(lambda: state() == "stalled")
        labels = {"pattern": "push_pull", "state": "stalled"}
        until(lambda: scrape_of(gateway).of("relayx_brokers", **labels) == 1)

    @brokered(PUSHED, http=HTTP)
    def test_logged(self, gateway: Brokered) -> None:
        """Its start, and who comes and goes, at most a line in five seconds."""
        self.patch(brokering, "LOG_EVERY", NEVER)
        pulls = [gateway.meeting.connect("PULL") for _ in range(20)]
        gateway.fe11().state(lambda state: state["brokers"][0]["clients_backend"] == 20)
        for pull in pulls:
            pull.close()
        gateway.fe11().state(lambda state: state["brokers"][0]["clients_backend"] == 0)
        events = in_the_reactor(gateway.service.admin.recent_events)
        texts = [event.text for event in events if event.event == "broker"]
        self.assertEqual(len(texts), 1)
        self.assertIn("serves ports", texts[0])
        texts = [event.text for event in events if event.event == "broker_connections"]
        self.assertEqual(len(texts), 1)
        self.assertIn("at its backend", texts[0])

    @brokered(PUSHED, {"pattern": "pub_sub"}, http=HTTP)
    def test_ended(self, gateway: Brokered) -> None:
        """One that ends by itself is nobody's any more; the other goes on."""
        fe = gateway.fe11()
        grant = fe.acquire(broker="push_pull")
        brokering = gateway.service.brokering
        (broker, _) = in_the_reactor(lambda: brokering.running)
        in_the_reactor(brokering.brokerEnded, broker, BrokerError("here", "on purpose"))
        self.assertEqual(fe.expect("port_release")["session_id"], grant["session_id"])
        state = fe.state()
        self.assertEqual([one["pattern"] for one in state["brokers"]], ["pub_sub"])
        found = json.loads(get(gateway, "/api/v1/brokers").body)["items"]
        self.assertEqual([one["state"] for one in found], ["ended", "running"])
        labels = {"pattern": "push_pull", "state": "ended"}
        self.assertEqual(scrape_of(gateway).of("relayx_brokers", **labels), 1)
        events = in_the_reactor(gateway.service.admin.recent_events)
        (text,) = [event.text for event in events if event.event == "broker_ended"]
        self.assertIn("on purpose", text)


def _text(shown: Any) -> str:
    from rich.console import Console

    console = Console(width=160)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


class Reloading(BrokerCase):
    """What can change while brokers run"""

    @brokered(PUSHED)
    def test_brokers(self, gateway: Brokered) -> None:
        """Not they themselves; the reason names the key and the restart."""
        other = [{"pattern": "pub_sub", "frontend": gateway.zmq[0], "backend": gateway.zmq[1]}]
        for brokers in (other, []):
            text = gateway.refused(zmq={"brokers": brokers})
            self.assertIn("zmq.brokers", text)
            self.assertIn("a restart is needed", text)
        push, pull = gateway.meeting.connect("PUSH"), gateway.meeting.connect("PULL")
        push.send(b"as before")
        self.assertEqual(pull.recv(), b"as before")

    @brokered(PUSHED)
    def test_ranges(self, gateway: Brokered) -> None:
        """Ports beside them come and go; theirs stay libzmq's."""
        fe = gateway.fe11()
        gateway.reload(relay=gateway.ports(6, 0))
        self.assertEqual(fe.state()["zmq_total"], 6)
        self.assertEqual(
            in_the_reactor(lambda: gateway.service.data.data.listening),
            set(range(gateway.zmq[2], gateway.zmq[0] + 6)),
        )
        gateway.reload(relay=gateway.ports(2, 0))
        self.assertEqual(in_the_reactor(lambda: gateway.service.data.data.listening), set())
        self.assertEqual(len(fe.state()["brokers"]), 1)
        text = gateway.refused(relay=gateway.ports(1, 0))
        self.assertIn("is no zmq port", text)
        self.assertTrue(gateway.meeting.admitted("PUSH"))


class Stopping(BrokerCase):
    """Draining"""

    @brokered(PUSHED, data={"drain_timeout": 300.0})
    def test_quiet(self, gateway: Brokered) -> None:
        """Where nothing moves, a stop takes no time, and whoever is connected is closed."""
        push, pull = gateway.meeting.connect("PUSH"), gateway.meeting.connect("PULL")
        push.send(b"last")
        self.assertEqual(pull.recv(), b"last")
        gateway.stop().result(60)
        self.assertEqual(_threads(), [])

    @brokered({"pattern": "req_rep"}, data={"drain_timeout": NEVER})
    def test_answers(self, gateway: Brokered) -> None:
        """A request that is with a REP gets its answer, however long nothing moves."""
        req, rep = gateway.meeting.connect("REQ"), gateway.meeting.connect("REP")
        req.send(b"slow")
        self.assertEqual(rep.recv(), b"slow")
        looks: set[float] = set()

        def looked() -> None:
            if next_look := gateway.service.brokering._calls.get("drain"):
                looks.add(next_look.getTime())

        stopped = gateway.stop()
        until(lambda: in_the_reactor(looked) or stopped.done() or len(looks) > 3)
        rep.send(b"answer")
        self.assertEqual(req.recv(), b"answer")
        stopped.result(60)
        self.assertEqual(_threads(), [])

    @brokered({**PUSHED, "sndhwm": 1, "rcvhwm": 0}, data={"drain_timeout": NEVER}, http=HTTP)
    def test_stuck(self, gateway: Brokered) -> None:
        """Where a backend takes nothing, it takes drain_timeout; nobody new is taken meanwhile."""
        gateway.meeting.connect("PULL", rcvhwm=1)
        push = gateway.meeting.connect("PUSH", sndhwm=0)
        for _ in range(300):
            push.send(bytes(200_000))
        until(lambda: in_the_reactor(lambda: gateway.service.brokering.reports[0].stalled))
        answer = change(gateway, "POST", "/api/v1/drain")
        self.assertEqual(answer.status, 202)
        until(lambda: in_the_reactor(lambda: gateway.service.draining.draining))
        self.assertFalse(gateway.meeting.admitted("PUSH"))
        in_the_reactor(gateway.service._stopping._late.reset, 0)  # drain_timeout is over
        gateway.stop().result(60)
        self.assertEqual(_threads(), [])

    @brokered({**PUSHED, "linger": 20_000}, data={"drain_timeout": 300.0})
    def test_linger(self, gateway: Brokered) -> None:
        """What a backend has for its peers is sent within ``linger``."""
        pull = gateway.meeting.connect("PULL", rcvhwm=1)
        push = gateway.meeting.connect("PUSH")
        for number in range(60):
            push.send(b"%d" % number + bytes(200_000))
        until(
            lambda: (
                in_the_reactor(
                    lambda: gateway.service.brokering.reports[0].moved.backend_sent.parts
                )
                == 60
            )
        )
        stopped = gateway.stop()
        for number in range(60):
            self.assertTrue(pull.recv().startswith(b"%d\0" % number))
        stopped.result(60)
        self.assertEqual(_threads(), [])


def _threads() -> list[str]:
    import threading

    return [one.name for one in threading.enumerate() if one.name.startswith("relayx")]
