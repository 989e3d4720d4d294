"""Broker mode: who may connect (ZAP: NULL by address, PLAIN, CURVE)."""

from __future__ import annotations

import socket
import threading
from typing import Any

from relayx.security.curve import generate_pair
from tests.zmq_brokers import HOST, NO_ZMQ, BrokersCase, in_thread

if NO_ZMQ is None:
    import zmq

    from relayx.zmq.settings import BrokerSettings, Pattern, Role, Security, Side

RIGHT = {"plain_username": b"fe-1", "plain_password": "päss".encode()}


class DoorCase(BrokersCase):
    """Tells right from wrong by what comes through."""

    async def assertServed(self, broker: Any, **options: Any) -> None:
        """A PUSH and a PULL with these options meet."""
        before = [one.accepted for one in broker.connections.values()]
        push = self.peer(broker, zmq.PUSH, **options)
        pull = self.peer(broker, zmq.PULL, **options)
        await self.told.until(
            lambda: all(
                one.accepted > count
                for one, count in zip(broker.connections.values(), before, strict=True)
            )
        )
        push.send(b"good")
        self.assertEqual(await in_thread(pull.recv), b"good")
        push.close()
        pull.close()

    async def assertRefused(self, broker: Any, reason: str, **options: Any) -> None:
        """On either side a handshake with these options fails, for this reason.

        Which of two peers of different mechanisms hangs up first is chance; "mechanism".
        """
        reasons = ("protocol", "no_detail") if reason == "mechanism" else (reason,)

        def failures() -> int:
            return sum(broker.handshake_failures[one] for one in reasons)

        for kind in (zmq.PUSH, zmq.PULL):
            accepted = [one.accepted for one in broker.connections.values()]
            before = failures()
            peer = self.peer(broker, kind, reconnect_ivl=-1, **options)
            await self.told.until(lambda before=before: failures() > before)
            self.assertEqual([one.accepted for one in broker.connections.values()], accepted)
            peer.close()


class PlainTests(DoorCase):
    """Name and password"""

    async def test_checked(self) -> None:
        """Who is right is served on both sides, who is wrong on none; the check is told all."""
        asked: list[tuple[str, str, str, Side]] = []

        def check(name: str, password: str, address: str, side: Side) -> bool:
            asked.append((name, password, address, side))
            return (name, password) == ("fe-1", "päss")

        broker = await self.broker("push_pull", security=Security.PLAIN, check=check)
        await self.assertServed(broker, **RIGHT)
        sides = [Side(Pattern.PUSH_PULL, role, 0) for role in Role]
        self.assertEqual(
            sorted(asked, key=str),
            sorted([("fe-1", "päss", HOST, side) for side in sides], key=str),
        )
        for wrong in (
            {"plain_password": b"other"},
            {"plain_username": b"fe-2"},
            {"plain_password": b"\xff"},
        ):
            await self.assertRefused(broker, "auth", **{**RIGHT, **wrong})
        await self.assertServed(broker, **RIGHT)

    async def test_otherMechanism(self) -> None:
        """NULL is no way around it."""
        broker = await self.broker("push_pull", security=Security.PLAIN, check=lambda *_: True)
        await self.assertRefused(broker, "mechanism")
        await self.assertServed(broker, **RIGHT)

    async def test_noCheck(self) -> None:
        """Nobody to ask: nobody comes in."""
        broker = await self.broker("push_pull", security=Security.PLAIN)
        await self.assertRefused(broker, "auth", **RIGHT)

    async def test_broken(self) -> None:
        """An error of the check refuses, is logged, and the next one is checked again."""
        errors = [ZeroDivisionError(), ZeroDivisionError()]

        def check(*_: object) -> bool:
            if errors:
                raise errors.pop()
            return True

        broker = await self.broker("push_pull", security=Security.PLAIN, check=check)
        await self.assertRefused(broker, "auth", **RIGHT)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        await self.assertServed(broker, **RIGHT)

    async def test_slow(self) -> None:
        """A slow check is in a thread of its own: the reactor turns, and NULL peers come in."""
        let = threading.Event()
        self.addCleanup(let.set)
        began = threading.Event()
        threads = set()

        def check(*_: object) -> bool:
            threads.add(threading.current_thread())
            began.set()
            return let.wait(30)

        plain = await self.broker("push_pull", security=Security.PLAIN, check=check)
        push = self.peer(plain, zmq.PUSH, **RIGHT)
        push.send(b"late")
        self.assertTrue(await in_thread(began.wait, 30))
        await plain.statistics()
        self.assertNotIn(threading.main_thread(), threads)
        self.assertEqual(plain.connections[Role.FRONTEND].accepted, 0)
        let.set()
        pull = self.peer(plain, zmq.PULL, **RIGHT)
        self.assertEqual(await in_thread(pull.recv), b"late")

    async def test_manyAtOnce(self) -> None:
        """Forty that come while both checks are taken are all served in the end."""
        broker = await self.broker("push_pull", security=Security.PLAIN, check=lambda *_: True)
        pushes = [self.peer(broker, zmq.PUSH, **RIGHT) for _ in range(40)]
        for number, push in enumerate(pushes):
            push.send(b"%d" % number)
        pull = self.peer(broker, zmq.PULL, **RIGHT)
        got = await in_thread(lambda: {pull.recv() for _ in range(40)})
        self.assertEqual(got, {b"%d" % number for number in range(40)})


class NullTests(DoorCase):
    """Addresses"""

    async def test_allow(self) -> None:
        """Who comes from an address that is not allowed is refused, on the side it is not."""

        def allow(address: str, side: Side) -> bool:
            return address == "127.0.0.3" or side.role is Role.BACKEND

        broker = await self.broker("push_pull", allow=allow)
        push, pull = self.context.socket(zmq.PUSH), self.peer(broker, zmq.PULL)
        push.linger = 0
        push.connect(f"tcp://127.0.0.3:0;{HOST}:{broker.port(Role.FRONTEND)}")
        push.send(b"from there")
        self.assertEqual(await in_thread(pull.recv), b"from there")
        failures = broker.handshake_failures
        refused = self.peer(broker, zmq.PUSH)
        await self.told.until(lambda: failures["auth"] > 0)
        self.assertEqual(broker.connections[Role.FRONTEND].accepted, 1)
        refused.close()

    async def test_plainIsNoNull(self) -> None:
        """A peer with PLAIN finds no broker with NULL."""
        broker = await self.broker("push_pull")
        await self.assertRefused(broker, "mechanism", **RIGHT)
        await self.assertServed(broker)


class CurveTests(DoorCase):
    """Keys, made by relayx and used by libzmq"""

    def setUp(self) -> None:
        super().setUp()
        self.server = generate_pair()

    async def curve(self, clients: tuple[str, ...] | None = None) -> Any:
        return await self.broker(
            "push_pull",
            security=Security.CURVE,
            curve_server_secret=self.server.secret,
            curve_server_public=self.server.public,
            curve_clients=clients,
        )

    def options(self, client: Any, server: str = "") -> dict[str, Any]:
        return {
            "curve_serverkey": (server or self.server.public).encode(),
            "curve_publickey": client.public.encode(),
            "curve_secretkey": client.secret.encode(),
        }

    async def test_any(self) -> None:
        """Any client that knows the server's key is served; one with another server's is not."""
        broker = await self.curve()
        await self.assertServed(broker, **self.options(generate_pair()))
        other = generate_pair().public
        await self.assertRefused(broker, "protocol", **self.options(generate_pair(), other))
        await self.assertRefused(broker, "mechanism")

    async def test_listed(self) -> None:
        """With a list, only who is on it."""
        listed = generate_pair()
        broker = await self.curve((generate_pair().public, listed.public))
        await self.assertServed(broker, **self.options(listed))
        await self.assertRefused(broker, "auth", **self.options(generate_pair()))

    async def test_none(self) -> None:
        """An empty list is nobody, not anybody."""
        broker = await self.curve(())
        await self.assertRefused(broker, "auth", **self.options(generate_pair()))

    async def test_notInTheClear(self) -> None:
        """What goes over the wire is not what was sent."""
        broker = await self.curve()
        heard: list[bytes] = []
        listening = socket.create_server((HOST, 0))
        self.addCleanup(listening.close)

        def wiretap() -> None:
            client, _ = listening.accept()
            server = socket.create_connection((HOST, broker.port(Role.FRONTEND)))

            def copy(source: socket.socket, target: socket.socket) -> None:
                while data := source.recv(65536):
                    heard.append(data)
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)

            back = threading.Thread(target=copy, args=(server, client))
            back.start()
            copy(client, server)
            back.join()
            client.close()
            server.close()

        tapping = in_thread(wiretap)
        push = self.context.socket(zmq.PUSH)
        push.linger = 0
        for name, value in self.options(generate_pair()).items():
            setattr(push, name, value)
        push.connect(f"tcp://{HOST}:{listening.getsockname()[1]}")
        push.send(b"a secret of some length")
        pull = self.peer(broker, zmq.PULL, **self.options(generate_pair()))
        self.assertEqual(await in_thread(pull.recv), b"a secret of some length")
        push.close()
        await tapping
        self.assertIn(b"CURVE", b"".join(heard))
        self.assertNotIn(b"secret", b"".join(heard))


class DomainTests(DoorCase):
    """Several brokers beside each other"""

    async def test_apart(self) -> None:
        """Each has its own mechanism, and the check is told which one asks."""
        sides: list[Side] = []

        def check(name: str, password: str, address: str, side: Side) -> bool:
            sides.append(side)
            return True

        brokers = await self.start(
            BrokerSettings(Pattern.PUSH_PULL, 0, 0, HOST),
            BrokerSettings(Pattern.PUSH_PULL, 0, 0, HOST, security=Security.PLAIN),
            BrokerSettings(Pattern.REQ_REP, 0, 0, HOST, security=Security.PLAIN),
            check=check,
        )
        null, plain, asking = brokers.brokers
        await self.assertServed(null)
        self.assertEqual(sides, [])
        await self.assertServed(plain, **RIGHT)
        self.assertEqual({side.pattern for side in sides}, {Pattern.PUSH_PULL})
        sides.clear()
        req = self.peer(asking, zmq.REQ, **RIGHT)
        await self.told.until(lambda: asking.connections[Role.FRONTEND].accepted == 1)
        self.assertEqual(sides, [Side(Pattern.REQ_REP, Role.FRONTEND, 0)])
        req.close()
