"""Broker mode: starting, pausing, ending, and what is left afterwards."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.admin_peer import until
from tests.zmq_brokers import HOST, NO_ZMQ, BrokersCase, in_thread

if NO_ZMQ is None:
    import zmq

    from relayx.zmq import broker as zmq_broker
    from relayx.zmq.broker import Broker
    from relayx.zmq.brokers import Brokers
    from relayx.zmq.counts import Moved
    from relayx.zmq.errors import BrokerError
    from relayx.zmq.settings import BrokerSettings, Pattern, Role, Security
    from relayx.zmq.words import pause_word

PATTERNS = ["pub_sub", "push_pull", "req_rep"]


def ours() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("relayx")]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def taken_port() -> socket.socket:
    """A socket that listens on a port which is free but for it."""
    taken = socket.socket()
    taken.bind((HOST, 0))
    taken.listen()
    return taken


class StartTests(BrokersCase):
    """All or none"""

    async def test_nothingIsLeft(self) -> None:
        """After a stop there is no thread, no descriptor, no listening port."""
        warm = await self.start(BrokerSettings(Pattern.PUB_SUB, 0, 0, HOST))
        await warm.stop()
        before = descriptors()
        settings = [BrokerSettings(Pattern(pattern), 0, 0, HOST) for pattern in PATTERNS]
        brokers = await self.start(*settings)
        ports = [broker.port(role) for broker in brokers.brokers for role in Role]
        self.assertEqual(len(set(ports)), 6)
        self.assertEqual(len(ours()), 4)
        await brokers.stop()
        self.assertEqual(ours(), [])
        self.assertEqual(descriptors(), before)
        for port in ports:
            self.assertRaises(ConnectionRefusedError, socket.create_connection, (HOST, port))
        self.assertEqual(self.told.ended, [])

    async def test_taken(self) -> None:
        """Where one port is taken nothing listens; freed, the same brokers start."""
        taken, free = taken_port(), taken_port()
        self.addCleanup(taken.close)
        ports = [one.getsockname()[1] for one in (taken, free)]
        free.close()
        settings = [
            BrokerSettings(Pattern.PUSH_PULL, 0, ports[1], HOST),
            BrokerSettings(Pattern.REQ_REP, ports[0], 0, HOST),
        ]
        brokers = Brokers(reactor, settings, self.told)
        self.addCleanup(brokers.stop)
        try:
            brokers.listen()
        except BrokerError as error:
            self.assertEqual(error.where, f"tcp://{HOST}:{ports[0]}")
            self.assertEqual(error.reason, os.strerror(errno.EADDRINUSE))
        else:
            self.fail("it started")
        self.assertRaises(ConnectionRefusedError, socket.create_connection, (HOST, ports[1]))
        self.assertEqual(ours(), [])
        self.assertEqual(self.told.ended, [])
        taken.close()
        brokers.listen()
        brokers.start()
        self.assertEqual(brokers.brokers[0].port(Role.BACKEND), ports[1])

    async def test_otherAddress(self) -> None:
        """An address that is not this machine's is an error, too."""
        brokers = Brokers(reactor, [BrokerSettings(Pattern.PUB_SUB, 0, 0, "192.0.2.1")], self.told)
        self.assertRaises(BrokerError, brokers.listen)
        self.assertEqual(ours(), [])

    async def test_none(self) -> None:
        """No settings, no threads."""
        brokers = await self.start()
        self.assertEqual((brokers.brokers, ours()), ((), []))
        await brokers.stop()

    async def test_ipv6(self) -> None:
        """Listens on IPv6."""
        brokers = await self.start(BrokerSettings(Pattern.PUSH_PULL, 0, 0, "::1", ipv6=True))
        push, pull = self.context.socket(zmq.PUSH), self.context.socket(zmq.PULL)
        for one, role in ((push, Role.FRONTEND), (pull, Role.BACKEND)):
            one.ipv6 = True
            one.linger = 0
            one.connect(f"tcp://[::1]:{brokers.brokers[0].port(role)}")
        push.send(b"six")
        self.assertEqual(await in_thread(pull.recv), b"six")

    async def test_onePortAgain(self) -> None:
        """The ports of a broker that has stopped can be listened on at once."""
        broker = await self.broker("push_pull")
        port = broker.port(Role.FRONTEND)
        await broker.stop()
        await self.start(BrokerSettings(Pattern.PUSH_PULL, port, 0, HOST))


class SteeringTests(BrokersCase):
    """Pause, resume, statistics, stop"""

    def test_pauseWord(self) -> None:
        """Whatever word pauses this libzmq is found, and leaves nothing behind."""
        context = zmq.Context()
        self.assertIn(pause_word(context), (b"PAUSE", b"RESUME"))
        context.term()
        self.assertEqual(ours(), [])

    async def paused(self, pattern: str, front: int, back: int) -> tuple[Broker, Any, Any]:
        """A broker that has moved one message, and is paused."""
        broker = await self.broker(pattern)
        sender, receiver = self.peer(broker, front), self.peer(broker, back)
        await self.live(broker, 1, 1)
        sender.send(b"one")
        self.assertEqual(await in_thread(receiver.recv), b"one")
        await broker.pause()
        return broker, sender, receiver

    async def test_paused(self) -> None:
        """Nothing moves while it is paused; all of it does afterwards, and is counted."""
        broker, push, pull = await self.paused("push_pull", zmq.PUSH, zmq.PULL)
        push.send(b"two")
        self.assertEqual(await in_thread(pull.poll, 300), 0)
        self.assertEqual((await broker.statistics()).backend_sent, Moved(1, 3))
        await broker.resume()
        self.assertEqual(await in_thread(pull.recv), b"two")
        self.assertEqual((await broker.statistics()).backend_sent, Moved(2, 6))

    async def test_pausedRequests(self) -> None:
        """Neither do requests, which our own loop moves."""
        broker, req, rep = await self.paused("req_rep", zmq.REQ, zmq.REP)
        rep.send(b"1")
        self.assertEqual(await in_thread(req.poll, 300), 0)
        await broker.resume()
        self.assertEqual(await in_thread(req.recv), b"1")

    async def test_turns(self) -> None:
        """Words that come at once have the effect of the same ones by turns."""
        broker, push, pull = await self.paused("push_pull", zmq.PUSH, zmq.PULL)
        push.send(b"two")
        words = [broker.resume(), broker.pause(), broker.pause(), broker.resume(), broker.resume()]
        await gatherResults([*words, broker.statistics()])
        self.assertEqual(await in_thread(pull.recv), b"two")

    async def test_exact(self) -> None:
        """Pauses under load lose nothing and count each message once."""
        for pattern in ("push_pull", "req_rep"):
            broker = await self.broker(pattern)
            there, back = (
                (zmq.PUSH, zmq.PULL) if pattern == "push_pull" else (zmq.DEALER, zmq.ROUTER)
            )
            sender, receiver = self.peer(broker, there), self.peer(broker, back)
            ended, thrice = threading.Event(), threading.Event()

            def send(sender: Any = sender, thrice: Any = thrice) -> None:
                for number in range(20_000):
                    if number == 10_000:
                        thrice.wait(60)
                    sender.send(b"%05d" % number)

            def receive(receiver: Any = receiver, ended: Any = ended) -> list[bytes]:
                got = [receiver.recv_multipart()[-1] for _ in range(20_000)]
                ended.set()
                return got

            going = gatherResults([in_thread(receive), in_thread(send)])
            pauses = 0
            while not ended.is_set():
                await broker.pause()
                pauses += 1
                if pauses == 3:
                    thrice.set()
                await broker.resume()
                await broker.statistics()
            got, _ = await going
            self.assertEqual(got, [b"%05d" % number for number in range(20_000)])
            parts = (await broker.statistics()).backend_sent.parts
            self.assertEqual(parts, 20_000 * (1 if pattern == "push_pull" else 2))
            self.assertGreater(pauses, 2)

    async def test_stopWhilePaused(self) -> None:
        """It ends from a pause as well."""
        broker, _, _ = await self.paused("push_pull", zmq.PUSH, zmq.PULL)
        await broker.stop()
        self.assertEqual((await broker.statistics()).backend_sent, Moved(1, 3))
        await gatherResults([broker.pause(), broker.resume(), broker.stop()])

    async def test_stalled(self) -> None:
        """A PULL that takes nothing keeps neither statistics nor the stop waiting."""
        self.patch(zmq_broker, "ANSWER_WITHIN", 1.0)
        broker = await self.broker("push_pull", sndhwm=1, rcvhwm=0)
        pull = self.peer(broker, zmq.PULL, rcvhwm=1)
        await self.live(broker, 0, 1)
        push = self.peer(broker, zmq.PUSH, sndhwm=0)
        for _ in range(300):
            push.send(bytes(200_000))
        moved = await broker.statistics()
        while not moved.stalled:
            moved = await broker.statistics()
        self.assertLess(moved.backend_sent.parts, 300)
        waiting = broker.pause()
        await broker.stop()
        await waiting
        self.assertEqual(pull.poll(60_000), zmq.POLLIN)
        self.assertEqual(self.told.ended, [])

    async def test_waitsWithoutSpinning(self) -> None:
        """With messages and nobody to take them, no thread is busy; who comes gets them."""
        for pattern, front, back in (
            ("push_pull", zmq.PUSH, zmq.PULL),
            ("req_rep", zmq.DEALER, zmq.ROUTER),
        ):
            broker = await self.broker(pattern)
            sender, first = self.peer(broker, front), self.peer(broker, back)
            sender.send(b"first")
            self.assertEqual((await in_thread(first.recv_multipart))[-1], b"first")
            first.close()
            await self.alone(broker, front)
            sender.send(b"second")
            deadline = time.monotonic() + 60
            while await self.busy() > 0.02:
                self.assertLess(time.monotonic(), deadline, "it goes on spinning")
            second = self.peer(broker, back)
            self.assertEqual((await in_thread(second.recv_multipart))[-1], b"second")

    async def busy(self) -> float:
        """CPU seconds of all brokers in a quarter of a second."""

        def used() -> float:
            clocks = [time.pthread_getcpuclockid(one.ident) for one in ours() if one.ident]
            return sum(map(time.clock_gettime, clocks))

        before = used()
        await deferLater(reactor, 0.25)  # what is measured is this time
        return used() - before


class WatchTests(BrokersCase):
    """Connections, as libzmq's monitors tell"""

    async def test_comeAndGo(self) -> None:
        """200 connections are counted; once closed, neither they nor a descriptor is there."""
        broker = await self.broker("req_rep")
        await broker.statistics()  # its thread has begun
        before = descriptors()
        threads = threading.active_count()
        context = zmq.Context()

        def connect() -> None:
            for number in range(200):
                one = context.socket(zmq.REQ if number % 2 else zmq.REP)
                one.linger = 0
                role = Role.FRONTEND if number % 2 else Role.BACKEND
                watched = one.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
                one.connect(f"tcp://{HOST}:{broker.port(role)}")
                if not watched.poll(60_000):
                    self.fail("no handshake")
                one.disable_monitor()
                one.close()
            context.destroy(linger=0)
            until(lambda: descriptors() == before)  # libzmq tells of an end before it closes

        await in_thread(connect)
        sides = broker.connections.values()
        await self.told.until(lambda: [one.accepted for one in sides] == [100, 100])
        await self.live(broker, 0, 0)
        self.assertEqual(set(broker.handshake_failures.values()), {0})
        self.assertLessEqual(threading.active_count(), threads + 1)  # the reactor's pool

    async def test_garbage(self) -> None:
        """What is no ZMTP, and who leaves before it, is counted by reason; others go on."""
        broker = await self.broker("push_pull")
        failures = broker.handshake_failures
        at = (HOST, broker.port(Role.FRONTEND))
        with socket.create_connection(at) as one:
            one.sendall(b"\xff" + bytes(8) + b"\x7f\x03" + b"\0" + b"KERBEROS" + bytes(44))
            await self.told.until(lambda: failures["protocol"] == 1)
        with socket.create_connection(at):
            await self.told.until(lambda: broker.connections[Role.FRONTEND].live == 1)
        await self.told.until(lambda: failures["no_detail"] == 1)
        push, pull = self.peer(broker, zmq.PUSH), self.peer(broker, zmq.PULL)
        push.send(b"through")
        self.assertEqual(await in_thread(pull.recv), b"through")

    async def test_endedByItself(self) -> None:
        """A broker whose libzmq fails says so, once, and listens no more."""
        broker = await self.broker("push_pull")
        port = broker.port(Role.FRONTEND)

        def fail(*_: Any) -> None:
            raise zmq.ZMQError(errno.EFAULT)

        self.patch(zmq, "proxy_steerable", fail)
        ended: Deferred[BrokerError] = Deferred()
        self.patch(self.told, "brokerEnded", lambda _, reason: ended.callback(reason))
        _pull = self.peer(broker, zmq.PULL)  # closed where nobody has it
        self.assertEqual((await ended).reason, os.strerror(errno.EFAULT))
        self.assertRaises(ConnectionRefusedError, socket.create_connection, (HOST, port))
        self.assertEqual((await broker.statistics()).backend_sent, Moved())
        await broker.stop()


class ListenTests(BrokersCase):
    """Listening before anything moves"""

    async def test_before(self) -> None:
        """Whoever comes before the start is served after it; asked at once, it answers."""
        brokers = Brokers(reactor, [BrokerSettings(Pattern.PUSH_PULL, 0, 0, HOST)], self.told)
        self.addCleanup(brokers.stop)
        brokers.listen()
        (broker,) = brokers.brokers
        push, pull = self.peer(broker, zmq.PUSH), self.peer(broker, zmq.PULL)
        push.send(b"early")
        await self.live(broker, 1, 1)
        self.assertFalse(pull.poll(0))
        brokers.start()
        asked = broker.statistics()
        self.assertEqual(await in_thread(pull.recv), b"early")
        self.assertFalse((await asked).stalled)

    def test_undone(self) -> None:
        """Listening is taken back where nothing has been started, once or twice."""
        brokers = Brokers(reactor, [BrokerSettings(Pattern.REQ_REP, 0, 0, HOST)], self.told)
        brokers.listen()
        port = brokers.brokers[0].port(Role.BACKEND)
        brokers.unlisten()
        brokers.unlisten()
        self.assertEqual((brokers.brokers, ours()), ((), []))
        self.assertRaises(ConnectionRefusedError, socket.create_connection, (HOST, port))

    def test_option(self) -> None:
        """What libzmq refuses is an error that says so, and leaves nothing."""
        wrong = BrokerSettings(
            Pattern.PUSH_PULL, 0, 0, HOST, security=Security.CURVE, curve_server_secret="none"
        )
        brokers = Brokers(reactor, [wrong], self.told)
        error = self.assertRaises(BrokerError, brokers.listen)
        self.assertIn("libzmq refuses an option", str(error))
        self.assertEqual(ours(), [])
