"""Unmodified programs of ZeroMQ that both connect to one port of the gateway, without HELLO."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet import reactor, threads
from twisted.trial.unittest import TestCase

from relayx.data.inspected import InspectedPump
from relayx.data.splicepump import SplicePump
from tests.admin_peer import until
from tests.live import Gateway, live

try:
    import zmq
except ImportError:
    zmq = None

OPEN = {"admission": "open"}
MESSAGES = {"inspect": "messages"}
WITHIN = 60_000
COUNT = 10_000
MIB = 1 << 20


def in_the_reactor(call: Callable[[], Any]) -> Any:
    """Make a call where the gateway lives."""
    return threads.blockingCallFromThread(reactor, call)


def pumps(gateway: Gateway) -> list[type]:
    """What moves the bytes of each session that runs."""
    running = in_the_reactor(gateway.service.data.data.sessions.running)
    return [type(one.session.pump) for one in running]


def parts(number: int, salt: bytes) -> list[bytes]:
    """A message of one to three parts, empty to 3000 bytes long; another for each number."""
    sizes = (0, 1, 255, 256, number % 3000)
    return [salt * (sizes[(number + n) % 5] // len(salt)) for n in range(1 + number % 3)]


def content(messages: Iterable[list[bytes]]) -> int:
    """Bytes in all parts."""
    return sum(len(part) for message in messages for part in message)


def digest(messages: Iterable[list[bytes]]) -> str:
    """Of messages and where their parts end."""
    found = hashlib.sha256()
    for message in messages:
        found.update(b"|".join(b"%d" % len(part) + part for part in message) + b";")
    return found.hexdigest()


class ZmtpCase(TestCase):
    """What these tests have in common."""

    skip = None if zmq is not None else "pyzmq is not installed"

    def socket(
        self,
        gateway: Gateway,
        kind: int,
        port: int = 0,
        source: str = "",
        watch: Callable[[Any], None] | None = None,
        **options: Any,
    ) -> Any:
        """A socket that connects to the first port unless told otherwise.

        :param source: an address to come from.
        :param watch: called with the socket before it connects.
        """
        context = zmq.Context()
        made = context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.RCVTIMEO, WITHIN)
        made.setsockopt(zmq.SNDTIMEO, WITHIN)
        for name, value in options.items():
            made.setsockopt(getattr(zmq, name), value)

        def close() -> None:
            made.close(linger=0)  # which keeps it until then
            context.destroy(linger=0)

        gateway.before_closing(close)
        if watch is not None:
            watch(made)
        told = f"{source}:0;" if source else ""
        made.connect(f"tcp://{told}{gateway.host}:{port or gateway.zmq[0]}")
        return made

    def waiting(self, gateway: Gateway, kind: int, **options: Any) -> Any:
        """A socket whose connection waits on the first port."""
        watcher = gateway.fe11("watcher")
        made = self.socket(gateway, kind, **options)
        watcher.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        watcher.close()
        return made


class PatternTests(ZmtpCase):
    """Each pattern of direct mode."""

    @live(data=OPEN)
    def test_push_pull(self, gateway: Gateway) -> None:
        pull = self.waiting(gateway, zmq.PULL)
        push = self.socket(gateway, zmq.PUSH)
        for number in range(1000):
            push.send(b"%d" % number)
        self.assertEqual([pull.recv() for _ in range(1000)], [b"%d" % n for n in range(1000)])

    @live(data=OPEN)
    def test_a_push_that_waits(self, gateway: Gateway) -> None:
        push = self.waiting(gateway, zmq.PUSH)
        push.send(b"x")
        self.assertEqual(self.socket(gateway, zmq.PULL).recv(), b"x")

    @live(data=OPEN)
    def test_req_rep(self, gateway: Gateway) -> None:
        rep = self.waiting(gateway, zmq.REP)
        req = self.socket(gateway, zmq.REQ)
        for number in range(100):
            req.send_multipart([b"question", b"%d" % number])
            self.assertEqual(rep.recv_multipart(), [b"question", b"%d" % number])
            rep.send(b"")
            self.assertEqual(req.recv(), b"")

    @live(data=OPEN)
    def test_pub_sub(self, gateway: Gateway) -> None:
        pub = self.waiting(gateway, zmq.XPUB)
        sub = self.socket(gateway, zmq.SUB, SUBSCRIBE=b"a")
        self.assertEqual(pub.recv(), b"\x01a")
        for topic in (b"a1", b"b", b"a2"):
            pub.send(topic)
        self.assertEqual([sub.recv(), sub.recv()], [b"a1", b"a2"])

    @live(data=OPEN)
    def test_sub_pub(self, gateway: Gateway) -> None:
        """The SUB waits; it has not been heard before a PUB is there."""
        sub = self.waiting(gateway, zmq.SUB, SUBSCRIBE=b"a")
        pub = self.socket(gateway, zmq.XPUB)
        self.assertEqual(pub.recv(), b"\x01a")
        pub.send(b"a1")
        self.assertEqual(sub.recv(), b"a1")
        sub.setsockopt(zmq.UNSUBSCRIBE, b"a")
        self.assertEqual(pub.recv(), b"\x00a")

    @live(data=OPEN)
    def test_xsub(self, gateway: Gateway) -> None:
        xsub = self.waiting(gateway, zmq.XSUB)
        pub = self.socket(gateway, zmq.XPUB)
        xsub.send(b"\x01")
        self.assertEqual(pub.recv(), b"\x01")
        pub.send_multipart([b"t", b""])
        self.assertEqual(xsub.recv_multipart(), [b"t", b""])

    @live(data=OPEN)
    def test_pair(self, gateway: Gateway) -> None:
        one = self.waiting(gateway, zmq.PAIR)
        two = self.socket(gateway, zmq.PAIR)
        one.send(b"there")
        two.send(b"back")
        self.assertEqual((two.recv(), one.recv()), (b"there", b"back"))

    @live(data=OPEN)
    def test_dealer_router(self, gateway: Gateway) -> None:
        router = self.waiting(gateway, zmq.ROUTER)
        dealer = self.socket(gateway, zmq.DEALER, ROUTING_ID=b"me")
        for number in range(100):
            dealer.send_multipart([b"%d" % number, b"", b"body"])
        got = [router.recv_multipart() for _ in range(100)]
        self.assertEqual(got, [[b"me", b"%d" % n, b"", b"body"] for n in range(100)])
        router.send_multipart([b"me", b"", b"answer"])
        self.assertEqual(dealer.recv_multipart(), [b"", b"answer"])

    @live(data=OPEN)
    def test_req_router_and_dealer_rep(self, gateway: Gateway) -> None:
        router = self.waiting(gateway, zmq.ROUTER)
        req = self.socket(gateway, zmq.REQ)
        req.send(b"?")
        whose, empty, asked = router.recv_multipart()
        self.assertEqual((empty, asked), (b"", b"?"))
        router.send_multipart([whose, b"", b"!"])
        self.assertEqual(req.recv(), b"!")

    @live(data=OPEN)
    def test_router_router(self, gateway: Gateway) -> None:
        one = self.waiting(gateway, zmq.ROUTER, ROUTING_ID=b"one", ROUTER_MANDATORY=1)
        two = self.socket(gateway, zmq.ROUTER, ROUTING_ID=b"two", PROBE_ROUTER=1)
        self.assertEqual(one.recv_multipart(), [b"two", b""])
        one.send_multipart([b"two", b"hello"])
        self.assertEqual(two.recv_multipart(), [b"one", b"hello"])

    @live(data=OPEN, zmq_keys={"inspect": "off"})
    def test_uninspected(self, gateway: Gateway) -> None:
        pull = self.waiting(gateway, zmq.PULL)
        push = self.socket(gateway, zmq.PUSH)
        push.send(b"x")
        self.assertEqual(pull.recv(), b"x")

    @live(data=OPEN)
    def test_curve_end_to_end(self, gateway: Gateway) -> None:
        public, secret = zmq.curve_keypair()
        mine, my_secret = zmq.curve_keypair()
        rep = self.waiting(
            gateway, zmq.REP, CURVE_SERVER=1, CURVE_PUBLICKEY=public, CURVE_SECRETKEY=secret
        )
        req = self.socket(
            gateway, zmq.REQ, CURVE_SERVERKEY=public, CURVE_PUBLICKEY=mine,
            CURVE_SECRETKEY=my_secret,
        )  # fmt: skip
        req.send(b"sealed")
        self.assertEqual(rep.recv(), b"sealed")
        rep.send(b"yes")
        self.assertEqual(req.recv(), b"yes")

    @live(data=OPEN, zmq_keys=MESSAGES)
    def test_a_slow_sub_loses_by_the_pubs_hwm(self, gateway: Gateway) -> None:
        """While a SUB does not read, TCP pushes back on the PUB, which drops what is over its HWM.

        The gateway drops nothing: all that came to it arrives, in order.
        """
        pub = self.waiting(gateway, zmq.XPUB, SNDHWM=10)
        sub = self.socket(gateway, zmq.SUB, SUBSCRIBE=b"", RCVHWM=10)
        self.assertEqual(pub.recv(), b"\x01")
        body, total = bytes(64 * 1024), 2000
        for number in range(total):
            pub.send(number.to_bytes(4, "big") + body)
        got = []
        while not got or got[-1] != total:
            # Whatever is dropped, there is room for this one in the end.
            pub.send(total.to_bytes(4, "big"))
            got.append(int.from_bytes(sub.recv()[:4], "big"))
        self.assertLess(len(got), total)
        self.assertEqual(got, sorted(set(got)))

        def all_arrived() -> bool:
            while sub.poll(0):
                self.assertEqual(int.from_bytes(sub.recv()[:4], "big"), total)
                got.append(total)
            moved = in_the_reactor(gateway.service.data.messages_moved)["pub_sub"]
            return bool(moved.be_to_fe == len(got))

        until(all_arrived)

    @live(data=OPEN)
    def test_a_slow_sub_loses_nothing_without_hwm(self, gateway: Gateway) -> None:
        pub = self.waiting(gateway, zmq.XPUB, SNDHWM=0)
        sub = self.socket(gateway, zmq.SUB, SUBSCRIBE=b"", RCVHWM=10)
        self.assertEqual(pub.recv(), b"\x01")
        body = bytes(64 * 1024)
        for number in range(500):
            pub.send(number.to_bytes(4, "big") + body)
        got = [int.from_bytes(sub.recv()[:4], "big") for _ in range(500)]
        self.assertEqual(got, list(range(500)))

    @live(data=OPEN)
    def test_req_rep_through_restarts_of_the_be(self, gateway: Gateway) -> None:
        """Question and answer in turn, with a REP that is killed after each third answer."""
        options = {"REQ_RELAXED": 1, "REQ_CORRELATE": 1}
        rep = self.waiting(gateway, zmq.REP)
        req = self.socket(gateway, zmq.REQ, **options)
        watcher = gateway.fe11("restarts")
        for number in range(9):
            req.send(b"%d" % number)
            self.assertEqual(rep.recv(), b"%d" % number)
            with self.assertRaises(zmq.Again):
                req.recv(zmq.DONTWAIT)
            rep.send(b"answer %d" % number)
            self.assertEqual(req.recv(), b"answer %d" % number)
            if number % 3 == 2:
                rep.close(linger=0)
                watcher.state(
                    lambda state: gateway.zmq[0] in state["zmq_ready_ports"]
                )  # the REQ that came again
                rep = self.socket(gateway, zmq.REP)


class AmountTests(ZmtpCase):
    """Sizes and numbers, counted and not."""

    def large(self, gateway: Gateway) -> None:
        pull = self.waiting(gateway, zmq.PULL)
        push = self.socket(gateway, zmq.PUSH)
        whole = bytes(range(256)) * (64 * 4096)
        push.send_multipart([b"", whole, b""], copy=False)
        empty, got, last = pull.recv_multipart(copy=False)
        self.assertEqual(hashlib.sha256(got.buffer).digest(), hashlib.sha256(whole).digest())
        self.assertEqual((empty.bytes, last.bytes), (b"", b""))

    @live(data=OPEN)
    def test_64_mib(self, gateway: Gateway) -> None:
        self.large(gateway)

    @live(data=OPEN, zmq_keys=MESSAGES)
    def test_64_mib_counted(self, gateway: Gateway) -> None:
        self.large(gateway)
        moved = in_the_reactor(gateway.service.data.messages_moved)["push_pull"]
        self.assertEqual((moved.fe_to_be, moved.fe_to_be_bytes), (1, 64 * MIB))

    def many(self, gateway: Gateway) -> tuple[int, int]:
        """10,000 messages each way at once; bytes each way."""
        count = COUNT

        def side(end: Any, salt: bytes) -> str:
            found: list[list[bytes]] = []
            sent = received = 0
            while sent < count or received < count:
                ready = end.poll(WITHIN, zmq.POLLIN | (zmq.POLLOUT if sent < count else 0))
                if not ready:
                    raise AssertionError(f"{sent} sent and {received} received")
                if ready & zmq.POLLOUT:
                    end.send_multipart(parts(sent, salt))
                    sent += 1
                if ready & zmq.POLLIN:
                    found.append(end.recv_multipart())
                    received += 1
            return digest(found)

        one, two = self.waiting(gateway, zmq.PAIR), self.socket(gateway, zmq.PAIR)
        there = gateway.background(side, one, b"there")
        back = gateway.background(side, two, b"ba")
        self.assertEqual(there.result(), digest(parts(n, b"ba") for n in range(count)))
        self.assertEqual(back.result(), digest(parts(n, b"there") for n in range(count)))
        return (
            content(parts(n, b"ba") for n in range(count)),
            content(parts(n, b"there") for n in range(count)),
        )

    @live(data=OPEN)
    def test_10000_each_way(self, gateway: Gateway) -> None:
        """Behind the handshake the session is spliced, and nothing of it seen."""
        self.many(gateway)
        self.assertEqual(pumps(gateway), [SplicePump])
        moved = in_the_reactor(gateway.service.data.messages_moved)["pair"]
        self.assertEqual((moved.fe_to_be, moved.be_to_fe), (0, 0))

    @live(data=OPEN, zmq_keys={"inspect": "off"})
    def test_10000_each_way_uninspected(self, gateway: Gateway) -> None:
        self.many(gateway)
        self.assertEqual(pumps(gateway), [SplicePump])

    @live(data=OPEN, zmq_keys=MESSAGES)
    def test_10000_each_way_counted(self, gateway: Gateway) -> None:
        to_be, to_fe = self.many(gateway)
        self.assertEqual(pumps(gateway), [InspectedPump])
        moved = in_the_reactor(gateway.service.data.messages_moved)["pair"]
        self.assertEqual((moved.fe_to_be, moved.be_to_fe), (10_000, 10_000))
        self.assertEqual((moved.fe_to_be_bytes, moved.be_to_fe_bytes), (to_be, to_fe))


class ManyTests(ZmtpCase):
    """10,000 messages by each pattern: every one arrives, once, in order and as it was sent."""

    def asked(self, salt: bytes) -> list[list[bytes]]:
        return [parts(number, salt) for number in range(COUNT)]

    def arrived(self, got: list[list[bytes]], sent: list[list[bytes]]) -> None:
        self.assertEqual((len(got), digest(got)), (len(sent), digest(sent)))

    def counted(
        self, gateway: Gateway, pattern: str, to_be: tuple[int, int], to_fe: tuple[int, int]
    ) -> None:
        """What the gateway has counted: messages and bytes of their content, each way."""
        self.assertEqual(pumps(gateway), [InspectedPump])
        moved = in_the_reactor(gateway.service.data.messages_moved)[pattern]
        self.assertEqual((moved.fe_to_be, moved.fe_to_be_bytes), to_be)
        self.assertEqual((moved.be_to_fe, moved.be_to_fe_bytes), to_fe)

    def push_pull(self, gateway: Gateway) -> list[list[bytes]]:
        sent = self.asked(b"work")
        pull, push = self.waiting(gateway, zmq.PULL), self.socket(gateway, zmq.PUSH)
        pulled = gateway.background(lambda: [pull.recv_multipart() for _ in sent])
        for message in sent:
            push.send_multipart(message)
        self.arrived(pulled.result(), sent)
        return sent

    @live(data=OPEN)
    def test_push_pull(self, gateway: Gateway) -> None:
        self.push_pull(gateway)
        self.assertEqual(pumps(gateway), [SplicePump])

    @live(data=OPEN, zmq_keys=MESSAGES)
    def test_push_pull_counted(self, gateway: Gateway) -> None:
        sent = self.push_pull(gateway)
        self.counted(gateway, "push_pull", (COUNT, content(sent)), (0, 0))

    def req_rep(self, gateway: Gateway) -> tuple[list[list[bytes]], list[list[bytes]]]:
        """Strictly in turn."""
        questions, answers = self.asked(b"question"), self.asked(b"answer")
        rep, req = self.waiting(gateway, zmq.REP), self.socket(gateway, zmq.REQ)
        heard, got = [], []
        for question, answer in zip(questions, answers, strict=True):
            req.send_multipart(question)
            heard.append(rep.recv_multipart())
            rep.send_multipart(answer)
            got.append(req.recv_multipart())
        self.arrived(heard, questions)
        self.arrived(got, answers)
        return questions, answers

    @live(data=OPEN)
    def test_req_rep(self, gateway: Gateway) -> None:
        self.req_rep(gateway)
        self.assertEqual(pumps(gateway), [SplicePump])

    @live(data=OPEN, zmq_keys=MESSAGES)
    def test_req_rep_counted(self, gateway: Gateway) -> None:
        questions, answers = self.req_rep(gateway)
        sizes = content(questions), content(answers)
        self.counted(gateway, "req_rep", (COUNT, sizes[0]), (COUNT, sizes[1]))

    def pub_sub(self, gateway: Gateway) -> tuple[list[list[bytes]], int]:
        """All that is published behind the subscription, and how many came before to find that out.

        A PUB is not told of it, so it sends one word until that arrives.
        """
        sent = self.asked(b"news")
        pub = self.waiting(gateway, zmq.PUB, SNDHWM=0)
        sub = self.socket(gateway, zmq.SUB, SUBSCRIBE=b"", RCVHWM=0)
        while not sub.poll(10):
            pub.send(b"heard?")
        for message in sent:
            pub.send_multipart(message)
        pub.send(b"end")
        got: list[list[bytes]] = []
        while not got or got[-1] != [b"end"]:
            got.append(sub.recv_multipart())
        before = next(n for n, message in enumerate(got) if message != [b"heard?"])
        self.arrived(got[before:], [*sent, [b"end"]])
        return got, before

    @live(data=OPEN)
    def test_pub_sub(self, gateway: Gateway) -> None:
        self.pub_sub(gateway)
        self.assertEqual(pumps(gateway), [SplicePump])

    @live(data=OPEN, zmq_keys=MESSAGES)
    def test_pub_sub_counted(self, gateway: Gateway) -> None:
        got, before = self.pub_sub(gateway)
        self.counted(gateway, "pub_sub", (0, 0), (before + COUNT + 1, content(got)))
