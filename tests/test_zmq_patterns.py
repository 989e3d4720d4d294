"""Broker mode: what goes through each pattern (unmodified pyzmq on both sides)."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import gatherResults

from tests.zmq_brokers import HOST, NO_ZMQ, BrokersCase, in_thread

if NO_ZMQ is None:
    import zmq

    from relayx.zmq.counts import Moved
    from relayx.zmq.settings import Role

MIB = 1 << 20
SHAPES = [[b""], [b"a", b"", b"c"], [b"", b""], [bytes(255)], [bytes(256)], [b"x" * 64 * MIB]]
PULLER = """
import sys, zmq
socket = zmq.Context().socket(zmq.PULL)
socket.connect(sys.argv[1])
while True:
    print(socket.recv().decode(), flush=True)
"""


def numbered(sender: int, count: int) -> Iterator[bytes]:
    """Messages that are all different, of 8 to 2,007 bytes."""
    for number in range(count):
        yield b"%03d%05d" % (sender, number) + bytes((number * 7) % 2000)


def digests(messages: list[bytes]) -> Counter[bytes]:
    return Counter(hashlib.sha256(message).digest() for message in messages)


class PushPullTests(BrokersCase):
    """PUSH to PULL"""

    async def test_manyToMany(self) -> None:
        """10,000 messages of four PUSHs reach four PULLs, each one of them, in its order."""
        broker = await self.broker("push_pull")
        pulls = [self.peer(broker, zmq.PULL) for _ in range(4)]
        await self.live(broker, 0, 4)
        pushes = [self.peer(broker, zmq.PUSH) for _ in range(4)]
        sent = [list(numbered(sender, 2500)) for sender in range(4)]
        got: list[bytes] = []

        def push(socket: Any, messages: list[bytes]) -> None:
            for message in messages:
                socket.send(message)

        def pull() -> None:
            poller = zmq.Poller()
            for socket in pulls:
                poller.register(socket, zmq.POLLIN)
            while len(got) < 10_000:
                for socket, _ in poller.poll(30_000) or self.fail("nothing comes"):
                    got.append(socket.recv())

        pushing = [in_thread(push, *pair) for pair in zip(pushes, sent, strict=True)]
        await gatherResults([in_thread(pull), *pushing])
        everything = [message for messages in sent for message in messages]
        self.assertEqual(digests(got), digests(everything))
        moved = await broker.statistics()
        size = sum(map(len, everything))
        self.assertEqual(moved.frontend_received, Moved(10_000, size))
        self.assertEqual(moved.backend_sent, Moved(10_000, size))
        self.assertEqual(moved.backend_received, Moved())
        self.assertFalse(moved.stalled)

    async def test_shapes(self) -> None:
        """Empty, of several parts, and of 64 MiB: all as they were."""
        broker = await self.broker("push_pull")
        push, pull = self.peer(broker, zmq.PUSH), self.peer(broker, zmq.PULL)
        for parts in SHAPES:
            push.send_multipart(parts)
            self.assertEqual(await in_thread(pull.recv_multipart), parts)
        moved = await broker.statistics()
        self.assertEqual(
            moved.backend_sent,
            Moved(sum(map(len, SHAPES)), sum(len(part) for parts in SHAPES for part in parts)),
        )

    async def test_pusherFirst(self) -> None:
        """What is pushed before anybody pulls waits."""
        broker = await self.broker("push_pull")
        push = self.peer(broker, zmq.PUSH)
        push.send(b"early")
        await self.live(broker, 1, 0)
        pull = self.peer(broker, zmq.PULL)
        self.assertEqual(await in_thread(pull.recv), b"early")

    async def test_killedAndSucceeded(self) -> None:
        """A PULL that is killed takes what it was given with it; its successor gets the rest."""
        broker = await self.broker("push_pull")
        endpoint = f"tcp://{HOST}:{broker.port(Role.BACKEND)}"
        child = subprocess.Popen(
            [sys.executable, "-c", PULLER, endpoint], stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(child.communicate)
        self.addCleanup(child.kill)
        push = self.peer(broker, zmq.PUSH)
        push.send(b"0")
        assert child.stdout is not None
        self.assertEqual(await in_thread(child.stdout.readline), "0\n")
        os.kill(child.pid, signal.SIGKILL)
        await self.alone(broker, zmq.PUSH)
        for number in range(1, 1001):
            push.send(b"%d" % number)
        pull = self.peer(broker, zmq.PULL)
        got = await in_thread(lambda: [pull.recv() for _ in range(1000)])
        self.assertEqual(got, [b"%d" % number for number in range(1, 1001)])

    async def test_tooLong(self) -> None:
        """A part over ``max_msg_size`` ends its sender's connection, and nobody gets it."""
        broker = await self.broker("push_pull", max_msg_size=1000)
        push, pull = self.peer(broker, zmq.PUSH), self.peer(broker, zmq.PULL)
        push.send(bytes(1001))
        await self.told.until(lambda: broker.connections[Role.FRONTEND].accepted == 2)
        push.send(b"short")
        self.assertEqual(await in_thread(pull.recv), b"short")


class PubSubTests(BrokersCase):
    """PUB to SUB"""

    async def test_manyToMany(self) -> None:
        """Each of three SUBs gets what it subscribed to from each of three PUBs."""
        broker = await self.broker("pub_sub", sndhwm=0, rcvhwm=0)
        pubs = [self.peer(broker, zmq.PUB, sndhwm=0) for _ in range(3)]
        subs = [self.peer(broker, zmq.SUB, rcvhwm=0) for _ in range(3)]
        topics = [b"", b"1", b"2"]
        for sub, topic in zip(subs, topics, strict=True):
            sub.subscribe(topic)
            sub.subscribe(b"probe")
        await in_thread(self.meet, pubs, subs)
        sent: list[bytes] = []
        for number in range(10_000):
            message = b"%d:%05d" % (number % 3, number) + bytes(number % 500)
            sent.append(message)
            pubs[number % 3].send(message)
        for sub, topic in zip(subs, topics, strict=True):
            wanted = [message for message in sent if message.startswith(topic)]
            got = await in_thread(self.take, sub, len(wanted))
            self.assertEqual(digests(got), digests(wanted))

    async def test_shapes(self) -> None:
        """Empty, of several parts, and of 64 MiB: all as they were."""
        broker = await self.broker("pub_sub")
        pub, sub = self.peer(broker, zmq.PUB), self.peer(broker, zmq.SUB)
        sub.subscribe(b"")
        await in_thread(self.meet, [pub], [sub])
        for parts in SHAPES:
            pub.send_multipart(parts)
            got = [b"probe"]
            while got[0].startswith(b"probe"):
                got = await in_thread(sub.recv_multipart)
            self.assertEqual(got, parts)

    async def test_slow(self) -> None:
        """A SUB that does not read loses messages; one that does loses none, and waits for none."""
        broker = await self.broker("pub_sub", sndhwm=500)  # room for probes too
        pub = self.peer(broker, zmq.PUB, sndhwm=0)
        fast = self.peer(broker, zmq.SUB)
        slow = self.peer(broker, zmq.SUB, rcvhwm=10)
        for sub in (fast, slow):
            sub.subscribe(b"")
        await in_thread(self.meet, [pub], [fast, slow])
        count = 10_000

        def publish() -> list[bytes]:
            got = []
            for start in range(0, count, 50):
                for number in range(start, start + 50):
                    pub.send(b"%05d" % number + bytes(8192))
                got += self.take(fast, 50)
            return got

        got = await in_thread(publish)
        self.assertEqual([int(message[:5]) for message in got], list(range(count)))

        def rest() -> list[int]:
            numbers = [0]
            while numbers[-1] != count:
                pub.send(b"%d" % count)  # there is room for one of these in the end
                message = slow.recv()
                if not message.startswith(b"probe"):
                    numbers.append(int(message[:5]))
            return numbers[1:-1]

        late = await in_thread(rest)
        self.assertGreater(len(late), 0)
        self.assertLess(len(late), count)
        self.assertEqual(late, sorted(set(late)))

    def meet(self, pubs: list[Any], subs: list[Any]) -> None:
        """Publish until every SUB has heard every PUB."""
        for sub in subs:
            missing = {b"probe%d" % number for number in range(len(pubs))}
            while missing:
                for number, pub in enumerate(pubs):
                    pub.send(b"probe%d" % number)
                while sub.poll(50):
                    missing.discard(sub.recv())

    def take(self, sub: Any, count: int) -> list[bytes]:
        """As many messages that are no probes."""
        got: list[bytes] = []
        while len(got) < count:
            message = sub.recv()
            if not message.startswith(b"probe"):
                got.append(message)
        return got


class ReqRepTests(BrokersCase):
    """REQ to REP"""

    async def test_manyToMany(self) -> None:
        """10,000 requests of four REQs to three REPs; each gets the answer to its own, in time."""
        broker = await self.broker("req_rep")
        reps = [self.peer(broker, zmq.REP) for _ in range(3)]
        await self.live(broker, 0, 3)
        reqs = [self.peer(broker, zmq.REQ) for _ in range(4)]
        served = [0, 0, 0]

        def ask(socket: Any, sender: int) -> None:
            for message in numbered(sender, 2500):
                socket.send(message)
                if socket.recv() != hashlib.sha256(message).digest():
                    self.fail("an answer to something else")

        def answer() -> None:
            poller = zmq.Poller()
            for socket in reps:
                poller.register(socket, zmq.POLLIN)
            while sum(served) < 10_000:
                for socket, _ in poller.poll(30_000) or self.fail("nothing comes"):
                    socket.send(hashlib.sha256(socket.recv()).digest())
                    served[reps.index(socket)] += 1

        asking = [in_thread(ask, socket, number) for number, socket in enumerate(reqs)]
        await gatherResults([in_thread(answer), *asking])
        self.assertGreater(min(served), 0)
        moved = await broker.statistics()
        # An identity of 5 bytes and an empty part go with each.
        size = sum(len(message) for sender in range(4) for message in numbered(sender, 2500))
        self.assertEqual(moved.frontend_received, Moved(30_000, size + 50_000))
        self.assertEqual(moved.backend_sent, moved.frontend_received)
        self.assertEqual(moved.frontend_sent, Moved(30_000, 10_000 * (32 + 5)))
        self.assertEqual(moved.backend_received, moved.frontend_sent)
        durations = broker.durations
        self.assertEqual(durations.count, 10_000)
        self.assertGreater(durations.sum, 0)
        self.assertEqual(durations.buckets[-1][1], 10_000)

    async def test_shapes(self) -> None:
        """Empty, of several parts, and of 64 MiB: all as they were, both ways."""
        broker = await self.broker("req_rep")
        req, rep = self.peer(broker, zmq.REQ), self.peer(broker, zmq.REP)
        for parts in SHAPES:
            req.send_multipart(parts)
            self.assertEqual(await in_thread(rep.recv_multipart), parts)
            rep.send_multipart(parts)
            self.assertEqual(await in_thread(req.recv_multipart), parts)

    async def test_manyAtOnce(self) -> None:
        """A DEALER that asks many at once has each answer, and each is timed."""
        broker = await self.broker("req_rep")
        dealer, rep = self.peer(broker, zmq.DEALER), self.peer(broker, zmq.REP)
        for number in range(500):
            dealer.send_multipart([b"", b"%d" % number])

        def answer() -> None:
            for _ in range(500):
                rep.send(rep.recv())

        await in_thread(answer)
        got = await in_thread(lambda: [dealer.recv_multipart() for _ in range(500)])
        self.assertEqual(got, [[b"", b"%d" % number] for number in range(500)])
        self.assertEqual(broker.durations.count, 500)

    async def test_successor(self) -> None:
        """A request that nobody took waits for a REP; one whose REP is gone is asked anew."""
        broker = await self.broker("req_rep")
        req = self.peer(broker, zmq.REQ, req_relaxed=True, req_correlate=True)
        first = self.peer(broker, zmq.REP)
        req.send(b"once")
        self.assertEqual(await in_thread(first.recv), b"once")
        first.close()
        await self.alone(broker, zmq.REQ)
        req.send(b"twice")
        second = self.peer(broker, zmq.REP)
        self.assertEqual(await in_thread(second.recv), b"twice")
        second.send(b"answer")
        self.assertEqual(await in_thread(req.recv), b"answer")
        self.assertEqual(broker.durations.count, 1)

    async def test_nobodyTakes(self) -> None:
        """Requests beyond the HWMs of slow REPs wait, and pass in their order."""
        broker = await self.broker("req_rep", sndhwm=2, rcvhwm=2)
        dealer = self.peer(broker, zmq.DEALER, sndhwm=0)
        router = self.peer(broker, zmq.ROUTER, rcvhwm=2)
        for number in range(200):
            dealer.send_multipart([b"", b"%d" % number, bytes(100_000)])

        def answer() -> list[bytes]:
            got = []
            for _ in range(200):
                *envelope, _, number, _ = router.recv_multipart()
                router.send_multipart([*envelope, b"", number])
                got.append(dealer.recv_multipart()[-1])
            return got

        self.assertEqual(await in_thread(answer), [b"%d" % number for number in range(200)])

    async def test_askerGone(self) -> None:
        """An answer to one who has gone, or who reads nothing, keeps nobody waiting."""
        broker = await self.broker("req_rep", sndhwm=1, rcvhwm=0)
        router = self.peer(broker, zmq.ROUTER, sndhwm=0)
        gone, deaf = self.peer(broker, zmq.DEALER), self.peer(broker, zmq.DEALER, rcvhwm=1)
        asked = {}
        for name, one in ((b"gone", gone), (b"deaf", deaf)):
            one.send_multipart([b"", name])
            *envelope, _, _ = await in_thread(router.recv_multipart)
            asked[name] = [*envelope, b""]
        gone.close()
        await self.live(broker, 1, 1)
        router.send_multipart([*asked[b"gone"], b"too late"])
        for _ in range(200):
            router.send_multipart([*asked[b"deaf"], bytes(200_000)])
        req = self.peer(broker, zmq.REQ)
        req.send(b"still there?")
        *envelope, question = await in_thread(router.recv_multipart)
        self.assertEqual(question, b"still there?")
        router.send_multipart([*envelope, b"yes"])
        self.assertEqual(await in_thread(req.recv), b"yes")
