"""The gateway in the test's own process, on real loopback sockets, for plain linear tests.

A test decorated with :func:`live` is an ordinary function that runs in a thread and talks to
the gateway with the blocking peers of :mod:`tests.guide_peer`; the gateway itself runs on
trial's reactor. Each one listens on a loopback address of its own, so that no test depends on
a free port. :mod:`tests.live_process` runs the same configuration as ``twistd relayx``.
"""

from __future__ import annotations

import copy
import functools
import json
import random
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
from twisted.internet import defer, reactor, threads

from relayx.config.model import ClientPolicy, Config, Secrets
from relayx.config.srt import Enabled
from relayx.config.zmq import Inspect
from relayx.listening import BindError
from relayx.service import GatewayService
from tests.guide_peer import DEADLINE, Control, Data

TIMEOUT = 600.0
"""Seconds that one test may take: every wait in it has a deadline, and fails with its reason."""
NEVER = 300.0
"""Seconds that no test takes: what waits for such a time-out is not what a test waits for."""
LATE = 10.0
"""Seconds that what a time-out brings about may come after it; a busy machine needs some."""
SECRET = "loopback-secret-of-more-than-32-bytes"
CONTROL_PORT = 5555
DATA_PORTS = range(20000, 32000, 200)
"""Where the data ports of one gateway may begin: below the ports that the system hands out."""

Sections = dict[str, Any]
"""Configuration keys by section, and under "clients" the list of its entries."""
PeerType = TypeVar("PeerType", Control, Data)
_Started = TypeVar("_Started")


class Control11(Control):
    """A control connection of a 1.1 client."""

    instance = ""

    def register(
        self, role: str, secret: str, client_id: str = "", *, instance: str | None = None
    ) -> dict[str, Any]:
        """Register with ``protocol`` 1.1 and an instance, a random one unless told."""
        self.instance = uuid.uuid4().hex if instance is None else instance
        payload = {"role": role, "secret": secret, "client_id": client_id, "protocol": "1.1"}
        if self.instance:
            payload["instance"] = self.instance
        self.say("register", payload)
        self.auth = self.expect("auth")
        return self.auth


class Data11(Data):
    """A data connection that asks for answers."""

    def hello(self, role: str, client_id: str = "", **fields: Any) -> None:
        """Say HELLO with ``ack``."""
        super().hello(role, client_id, **{"ack": True, **fields})

    def answer(self) -> tuple[str, dict[str, Any]]:
        """The next answer line: its word and its fields."""
        word, _, fields = self.receive_line().partition(b" ")
        return word.decode(), json.loads(fields)

    def expect(self, word: str) -> dict[str, Any]:
        """The fields of the next answer line, which must be this one."""
        found, fields = self.answer()
        if found != word:
            raise AssertionError(f"expected {word}, got {found} {fields}")
        return fields

    def paired(self) -> dict[str, Any]:
        """The fields of RLX1PAIRED, which may come after an RLX1OK."""
        word, fields = self.answer()
        if word == "RLX1OK":
            return self.expect("RLX1PAIRED")
        if word != "RLX1PAIRED":
            raise AssertionError(f"expected RLX1PAIRED, got {word} {fields}")
        return fields

    def dropped(self) -> str:
        """Wait until a connection that waited is closed: the code it was told, "" for none.

        The contract wants the close; a line that says why may go before it.
        """
        told, _ = self.rest()
        if not told:
            return ""
        word, _, fields = told.partition(b" ")
        if word != b"RLX1ERR" or told.count(b"\n") != 1:
            raise AssertionError(f"expected a close, got {told!r}")
        return json.loads(fields)["error_code"]

    def refusal(self) -> str:
        """The error code of a refusal, which must be followed by an orderly close."""
        fields = self.expect("RLX1ERR")
        if not fields["error"]:
            raise AssertionError("a refusal says in English what was wrong")
        if self.rest() != (b"", "end"):
            raise AssertionError("a refusal is followed by an end of stream and nothing else")
        return fields["error_code"]


class Peers:
    """Opens connections to one gateway and closes them all in the end."""

    def __init__(self, host: str, zmq: int, srt: int) -> None:
        self.host = host
        self.control_port = CONTROL_PORT
        first = random.choice(DATA_PORTS)
        self.srt = list(range(first, first + srt))
        self.zmq = list(range(first + 100, first + 100 + zmq))
        self._opened: list[Control | Data] = []
        self._last_calls: list[Callable[[], None]] = []
        self._pool = ThreadPoolExecutor(max_workers=8)

    def background(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run a blocking call beside the scenario."""
        return self._pool.submit(call, *args)

    def open(self, kind: type[PeerType], port: int, **options: Any) -> PeerType:
        """A connection to a port of the gateway."""
        peer = kind((self.host, port), **options)
        self._opened.append(peer)
        return peer

    def before_closing(self, call: Callable[[], None]) -> None:
        """Make a call at the end of the scenario, before the connections are closed."""
        self._last_calls.append(call)

    def close_all(self) -> None:
        """Close what is still open and wait for background calls."""
        for call in self._last_calls:
            call()
        for peer in self._opened:
            try:
                peer.socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads
            except OSError:
                pass  # closed by the test or by the gateway
            peer.close()
        self._pool.shutdown(wait=True)

    def control(self, **options: Any) -> Control:
        """A control connection that has not registered."""
        return self.open(Control, self.control_port, **options)

    def fe(self, client_id: str = "", **options: Any) -> Control:
        """A registered v1 FE."""
        return self._registered(Control, "FE", client_id, {}, options)

    def be(self, client_id: str = "", **options: Any) -> Control:
        """A registered v1 BE."""
        return self._registered(Control, "BE", client_id, {}, options)

    def fe11(self, client_id: str = "", *, instance: str | None = None, **options: Any) -> Control:
        """A registered 1.1 FE."""
        return self._registered(Control11, "FE", client_id, {"instance": instance}, options)

    def be11(self, client_id: str = "", *, instance: str | None = None, **options: Any) -> Control:
        """A registered 1.1 BE."""
        return self._registered(Control11, "BE", client_id, {"instance": instance}, options)

    def _registered(
        self,
        kind: type[Control],
        role: str,
        client_id: str,
        extra: dict[str, Any],
        options: dict[str, Any],
    ) -> Control:
        client = self.open(kind, self.control_port, **options)
        auth = client.register(role, SECRET, client_id, **extra)
        if auth["status"] != "ok":
            raise AssertionError(f"registration was refused: {auth}")
        return client

    def dial(self, port: int, **options: Any) -> Data:
        """A data connection of a v1 client that has not said HELLO."""
        return self.open(Data, port, **options)

    def dial11(self, port: int, **options: Any) -> Data11:
        """A data connection of a 1.1 client that has not said HELLO."""
        return self.open(Data11, port, **options)

    def waiting(self, port: int, client_id: str = "", *, source: str = "", **hello: Any) -> Data11:
        """A BE's connection that waits on a port, in close mode."""
        link = self.dial11(port, source=source)
        link.hello("BE", client_id, **hello)
        link.expect("RLX1OK")
        return link

    def kept(self, port: int, witness: Control, client_id: str = "", **hello: Any) -> Data:
        """A v1 BE's connection that waits on a port; `witness` is told when it does."""
        link = self.dial(port)
        link.hello("BE", client_id, **hello)
        witness.state(lambda state: port in state["zmq_ready_ports"] + state["srt_ready_ports"])
        return link

    def entering(self, port: int, client_id: str = "", *, source: str = "", **hello: Any) -> Data11:
        """An FE's connection that has said HELLO and asked for an answer."""
        link = self.dial11(port, source=source)
        link.hello("FE", client_id, **hello)
        return link

    def pair(self, port: int, **hello: Any) -> tuple[Data11, Data11]:
        """A session in close mode: its FE's and its BE's connection, both told so."""
        be = self.waiting(port)
        fe = self.entering(port, **hello)
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        return fe, be


class Gateway(Peers):
    """A gateway on trial's reactor, as a scenario sees it."""

    service: GatewayService
    _stopped: Future[None] | None = None

    def close_all(self) -> None:
        """Close what is still open, and wait for a stop that has begun."""
        super().close_all()
        if self._stopped is not None:
            self._stopped.result(2 * DEADLINE)

    def stop(self) -> Future[None]:
        """Begin to stop the gateway; the future is done when it has ended."""
        done: Future[None] = Future()
        self._stopped = done

        def begin() -> None:
            stopping = defer.maybeDeferred(self.service.stopService)
            stopping.addCallbacks(
                lambda _: done.set_result(None), lambda why: done.set_exception(why.value)
            )

        reactor.callFromThread(begin)  # type: ignore[attr-defined]  # typed as a module
        return done


def random_host() -> str:
    """A loopback address that hardly anybody else has."""
    return "127." + ".".join(str(random.randint(2, 250)) for _ in range(3))


def settings(peers: Peers, sections: Sections) -> Sections:
    """The keys of a configuration that listens on one host only, with a test's own on top.

    ``{host}`` in an endpoint is that host.

    No time-out ends anything by itself, so that nothing depends on how busy the machine is,
    and what has to happen at once cannot pass by happening later.
    """
    host = peers.host
    found: Sections = {
        "relay": {"control_port": peers.control_port, "reaper_timeout": NEVER},
        "control": {
            "endpoints": [f"tcp:{peers.control_port}:interface={host}:backlog=512"],
            "register_timeout": NEVER,
        },
        "data": {
            "interface": host,
            "hello_timeout": NEVER,
            "drain_limit": NEVER,
            "drain_timeout": 0.5,
        },
        "http": {"endpoint": ""},
        "srt": {"enabled": Enabled.NO},
        "limits": {"messages_per_second": 10**6},  # a test that waits pings as fast as it can
    }
    for name, ports in (("zmq", peers.zmq), ("srt", peers.srt)):
        if ports:
            found["relay"][f"{name}_start_port"] = ports[0]
            found["relay"][f"{name}_end_port"] = ports[-1]
    for name, keys in sections.items():
        if name == "clients":
            found[name] = keys
        else:
            found.setdefault(name, {}).update(keys)
    endpoints = found["control"]["endpoints"]
    found["control"]["endpoints"] = [text.replace("{host}", host) for text in endpoints]
    found["http"]["endpoint"] = found["http"]["endpoint"].replace("{host}", host)
    return found


def _config(sections: Sections) -> Config:
    clients = tuple(ClientPolicy(**entry) for entry in sections.pop("clients", ()))
    whole = Config(clients=clients)
    changed = {
        name: msgspec.structs.replace(
            getattr(whole, name),
            **{key: tuple(v) if isinstance(v, list) else v for key, v in keys.items()},
        )
        for name, keys in sections.items()
    }
    return msgspec.structs.replace(whole, **changed)


def service_for(
    peers: Peers, sections: Sections, secrets: dict[str, str] | None = None
) -> GatewayService:
    """A gateway for these peers that has not been started."""
    return GatewayService(
        _config(settings(peers, sections)),
        Secrets(**{"auth_secret": SECRET, **(secrets or {})}),
        reactor,
    )


def on_free_ports(start: Callable[[], _Started]) -> _Started:
    """What `start` gives, which is called again where one of the ports that it chose is taken."""
    for _ in range(7):
        try:
            return start()
        except BindError:
            continue
    return start()


def _started(zmq: int, srt: int, secrets: dict[str, str], sections: Sections) -> Gateway:
    gateway = Gateway(random_host(), zmq, srt)
    service = service_for(gateway, sections, secrets)
    service.privilegedStartService()
    service.startService()
    gateway.service = service
    return gateway


def live(
    *,
    zmq: int = 3,
    srt: int = 2,
    real_srt: dict[str, Any] | None = None,
    zmq_keys: dict[str, Any] | None = None,
    secrets: dict[str, str] | None = None,
    **sections: Any,
) -> Callable[[Callable[..., None]], Callable[..., defer.Deferred[None]]]:
    """Run a test in a thread, with a gateway as its argument.

    :param zmq: how many zmq ports it has; likewise `srt`.
    :param real_srt: keys of the section ``srt``, where SRT is to be served.
    :param zmq_keys: keys of the section ``zmq``.
    :param secrets: keys of the secret file besides the current secret.
    :param sections: configuration keys by section; durations in seconds.
    """

    if real_srt is not None:
        sections["srt"] = {"enabled": Enabled.YES, **real_srt}
    if zmq_keys is not None:
        told = {"inspect": Inspect(zmq_keys["inspect"])} if "inspect" in zmq_keys else {}
        sections["zmq"] = {**zmq_keys, **told}
    return hosted(
        lambda case: on_free_ports(
            lambda: _started(zmq, srt, secrets or {}, copy.deepcopy(sections))
        )
    )


def hosted(
    start: Callable[[Any], Any],
) -> Callable[[Callable[..., None]], Callable[..., defer.Deferred[None]]]:
    """Run a test in a thread, with what `start` makes of the test case as its argument.

    :param start: gives a :class:`Gateway` that serves.
    """

    def decorate(scenario: Callable[..., None]) -> Callable[..., defer.Deferred[None]]:
        @functools.wraps(scenario)
        @defer.inlineCallbacks
        def run(case: Any) -> Iterator[Any]:
            gateway = start(case)

            def body() -> None:
                try:
                    scenario(case, gateway)
                finally:
                    gateway.close_all()

            try:
                yield threads.deferToThread(body)
            finally:
                if gateway.service.running:
                    yield gateway.service.stopService()

        run.timeout = TIMEOUT  # type: ignore[attr-defined]  # trial's
        return run

    return decorate
