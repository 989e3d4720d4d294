"""The gateway as a Twisted service: where effects become I/O.

It owns the switchboard (the rules) and both planes (the bytes). Everything that happens goes the
same way: the event to the switchboard, its effects to :mod:`relayx.performing`, and from there to
the planes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger, globalLogPublisher

from relayx import __version__
from relayx.admin.gateway import Metrics as Scrape
from relayx.admin.model import GatewayState
from relayx.adminport import AdminPort
from relayx.audit import Record
from relayx.authentication import Authentication
from relayx.brokerdoors import Doors, Sight
from relayx.brokering import Brokering, BrokersMissingError
from relayx.config.model import Config, Secrets
from relayx.control import protocol as control
from relayx.control.logstream import LogStream
from relayx.core import effects as fx
from relayx.core.errors import Code, PeerError
from relayx.core.glance import Snapshot, glance
from relayx.core.hello import Hello
from relayx.core.messages import Cause, Message, Protocol, Register, Role, Side, Transport
from relayx.core.pairing import Outcome
from relayx.core.policy import Policy
from relayx.core.switchboard import Switchboard
from relayx.entrance import Entrance
from relayx.impact import Impact
from relayx.linkfeedback import LinkFeedback
from relayx.listening import BindError, Listening, StartError
from relayx.logs import LEVELS, Renderer
from relayx.metrics import CONTENT_TYPE, Metrics, Sources
from relayx.naming import RandomNames
from relayx.net.inherited import Inherited
from relayx.net.newcomers import LINGER
from relayx.net.sources import Failures
from relayx.net.tls import TlsFileError
from relayx.performing import Performing
from relayx.planes import Planes, SrtUnusableError
from relayx.reloading import Parts, Reloading, StartedFrom
from relayx.repeats import Repeats, Unrepeating
from relayx.security.keydir import KeyFileError
from relayx.settings import (
    control_settings,
    data_settings,
    load_data_tls,
    policies,
    rules,
    srt_settings,
    zmq_settings,
)
from relayx.slowlinks import SlowLinks, Watched
from relayx.srt.connection import SrtConnection
from relayx.trust import KeyWatch, read_keys
from relayx.zmq.errors import BrokerError

_GONE_LOOK = 0.01
_GONE_LIMIT = LINGER + 0.5
_LAST_LIMIT = 1.0


class Draining(msgspec.Struct, frozen=True):
    """How far a stop is (contract section 9).

    :ivar draining: whether it has begun.
    :ivar sessions: how many still run.
    :ivar until: when they are ended, in seconds since the epoch; 0.0 where that is not set.
    """

    draining: bool
    sessions: int
    until: float


class GatewayService(Service):
    """One gateway. Binding is done in ``privilegedStartService``, and fails there.

    :param config: the configuration, already checked.
    :param secrets: what the secret file holds.
    :param reactor: an IReactorTime, IReactorFDSet, IReactorTCP and IReactorThreads.
    :param inherited: sockets that listen already.
    :param origin: the files, for :meth:`reload`.
    :ivar reloading: which revision of the configuration is in force, and how the last reload went.
    :ivar repeats: what is left out of each log because it repeats.
    :ivar when_drained_on_demand: what ends the process once :meth:`drain` has been asked for.
    """

    def __init__(
        self,
        config: Config,
        secrets: Secrets,
        reactor: Any,
        inherited: Inherited | None = None,
        origin: StartedFrom | None = None,
    ) -> None:
        self.config = config
        self.secrets = secrets
        self._reactor = reactor
        self.authentication = Authentication(secrets, config.clients, reactor, self.say)
        self._log = Logger(namespace="relayx")
        self._least = LEVELS[config.log.level]
        names = RandomNames()
        self.switchboard = Switchboard(rules(config), names, policies(config.clients))
        self._key_watch = KeyWatch(reactor, self.say)
        self.control = control.ControlFactory(
            reactor, control_settings(config), self, names, self._key_watch.trust
        )
        limits = config.limits
        failures = Failures(limits.failures_per_minute, limits.failure_block)
        self._entrance = Entrance(
            reactor, self.control, self.authentication, self.switchboard.policy, failures,
            self.say,
        )  # fmt: skip
        self.data = Planes(reactor, data_settings(config), self, self._glance)
        self._doors = Doors(
            reactor, self.authentication, self._policy_of, failures, self.say, self._sight
        )
        self.brokering = Brokering(
            reactor, config.zmq.brokers, self._doors, self.say, self._broker_clients,
            lambda side, more: self.metrics.broker_connected(side, more), self._broker_ended,
        )  # fmt: skip
        self._perform = Performing(
            reactor, self.switchboard, self.control, self.data, self._pair, self._tell,
            self._performed,
        )  # fmt: skip
        self._feedback = LinkFeedback(reactor, self.switchboard, self.control, self.data)
        self._slow = SlowLinks(reactor, self.say)
        self._listening = Listening(reactor, config, self.control, self.data, inherited)
        self._stopping: Deferred[None] | None = None
        self._late: Any = None
        self._brokers_move = False
        self._record = Record(reactor, lambda text: self._log.error("{text}", text=text))
        self.when_drained_on_demand: Callable[[], object] = lambda: None
        parts = Parts(
            reactor, self.switchboard, self.control, self.data, self.brokering,
            self.authentication, failures,
            self._key_watch, self._record, self._listening.tls, self._listening.proxied,
            self._listening.http_tls,
        )  # fmt: skip
        self.reloading = Reloading(parts, config, secrets, self._perform, self.say, origin)
        self.reloading.when_applied.append(self._reloaded)
        self.reloading.when_refused.append(lambda: self.metrics.reload_refused())
        self.repeats: list[Repeats] = []
        self._dropped_before = self._left_out_before = 0
        self.log_stream = self._build_log_stream(config)
        self.metrics = self._build_metrics()
        scrape = Scrape(CONTENT_TYPE, self.metrics.render)
        self.admin = AdminPort(reactor, self, scrape) if config.http.endpoint else None
        self._listening.admin = self.admin

    def _build_log_stream(self, config: Config) -> LogStream | None:
        if config.log.stream == "off":
            return None
        role = Role.BE if config.log.stream == "be" else None
        renderer = Renderer(config.log.level, config.log.format)
        stream = LogStream(
            self._reactor,
            self.control,
            renderer,
            lambda: [client.conn for client in self.switchboard.clients(role)],
        )
        self._unrepeating = Unrepeating(self._reactor, stream, renderer)
        self.repeats.append(self._unrepeating.repeats)
        return stream

    def _reloaded(self, config: Config) -> None:
        before, self.config, self.secrets = self.config, config, self.reloading.secrets
        self.metrics.reloaded(self.reloading.revision)
        self._least = LEVELS[config.log.level]
        if config.log != before.log:
            self._stop_log_stream()
            self.log_stream = self._build_log_stream(config)
            self._start_log_stream()

    def _start_log_stream(self) -> None:
        if self.log_stream is not None:
            globalLogPublisher.addObserver(self._unrepeating)

    def _stop_log_stream(self) -> None:
        if self.log_stream is not None:
            globalLogPublisher.removeObserver(self._unrepeating)
            self._unrepeating.close()
            self.log_stream.close()
            self._dropped_before += self.log_stream.lines_dropped
            self._left_out_before += self._unrepeating.repeats.left_out
            self.repeats.remove(self._unrepeating.repeats)
            self.log_stream = None

    def _build_metrics(self) -> Metrics:
        return Metrics(
            Sources(
                clock=self._reactor,
                switchboard=self.switchboard,
                control=self.control,
                data=self.data,
                expiring_keys=self._key_watch.expiring,
                blocked=self._entrance.blocked_sources,
                previous_secret_used=lambda: self.authentication.previous_used,
                stream_lines_dropped=self._stream_lines_dropped,
                audit_lines_lost=lambda: self._record.lost,
                repeated_lines=self._repeated_lines,
                brokers=lambda: self.brokering.reports,
            )
        )

    def _repeated_lines(self) -> int:
        return self._left_out_before + sum(repeats.left_out for repeats in self.repeats)

    def _stream_lines_dropped(self) -> int:
        return self._dropped_before + (self.log_stream.lines_dropped if self.log_stream else 0)

    # starting and stopping

    def privilegedStartService(self) -> None:
        """Listen on every port, or on none.

        :raises BindError: naming the first port that cannot be bound.
        :raises StartError: where a file cannot be used.
        """
        try:
            self._open_audit()
            self._use_keys()
            self._use_data_tls()
            self._begin_srt()
            self._listening.begin(self.switchboard.board.ports)
            self._listen_for_brokers()
        except StartError:
            self._listening.end()
            self._listening.close_connections()
            self._listening.release()
            self._record.close()
            raise
        finally:  # a unit that is not up to date
            for text in self._listening.leave_unused():
                self.say("warn", "inherited", f"{text}; it is not used")
        self._start_log_stream()
        self.reloading.listens = True
        super().privilegedStartService()

    def _open_audit(self) -> None:
        path = self.config.audit.file
        try:
            self._record.use(self._record.open(path))
        except OSError as failed:
            raise StartError(f"audit.file {path} cannot be opened: {failed.strerror}") from None

    def _use_keys(self) -> None:
        try:
            self._key_watch.use(read_keys(self.config.security))
        except KeyFileError as error:
            raise StartError(str(error)) from None

    def plan_reload(self, config: Config | None = None, secrets: Secrets | None = None) -> Impact:
        """What :meth:`reload` would do; nothing changes.

        :raises ConfigError: where the files are wrong. What is right and cannot be applied is
            told in the `faults` of the answer.
        """
        return self.reloading.plan(config, secrets)

    def reload(self, config: Config | None = None, secrets: Secrets | None = None) -> Impact:
        """Take the configuration anew, with secrets, keys and certificates: all or nothing.

        Nobody is dropped but those who wait on ports that are no longer there.

        :param config: instead of what the file says; `secrets` likewise.
        :raises ConfigError: with what is wrong; everything stays as it was.
        """
        if self._stopping is not None:
            raise self.reloading.refuse("the gateway is stopping, and reloads nothing")
        return self.reloading.reload(config, secrets)

    def _use_data_tls(self) -> None:
        try:
            self.data.set_tls(load_data_tls(self.config.data.tls))
        except TlsFileError as error:
            raise StartError(f"data.tls: {error}") from None

    def _begin_srt(self) -> None:
        if not self.config.relay.ports("srt"):
            return
        try:
            told = self.data.begin_srt(srt_settings(self.config, self.secrets))
        except SrtUnusableError as error:
            raise StartError(str(error)) from None
        self.say("info", "srt", told)

    def _listen_for_brokers(self) -> None:
        try:
            self.brokering.listen(zmq_settings(self.config))
        except BrokerError as error:
            raise BindError(f"cannot listen for a ZeroMQ broker on {error}") from None
        except (BrokersMissingError, KeyFileError) as error:
            raise StartError(str(error)) from None

    def _policy_of(self, client_id: str) -> Policy:
        return self.switchboard.board.policies.of(client_id)

    def _sight(self) -> Sight:
        board = self.switchboard.board
        return Sight(board.rules.admission, board.roster.copied()[0], board.draining)

    def _broker_clients(self, frontend: int, clients: Mapping[Side, int]) -> None:
        self._perform(self.switchboard.broker_clients(frontend, clients))

    def _broker_ended(self, frontend: int) -> None:
        self._perform(self.switchboard.broker_ended(frontend))

    def _glance(self) -> Snapshot:
        return glance(self.switchboard.board, self._reactor.seconds())

    @property
    def http_address(self) -> Any:
        """Where the admin HTTP listens, an IAddress; None where it does not."""
        return self._listening.http_address

    @property
    def control_addresses(self) -> list[Any]:
        """Where the control plane listens, an IAddress each."""
        return self._listening.control_addresses

    def startService(self) -> None:
        """Begin to serve."""
        super().startService()
        if self.admin is not None:
            self.admin.started()
        self.metrics.start()
        self._key_watch.start()
        self.data.dial()
        self.brokering.start()
        self.say("info", "started", f"relayx {__version__} {self.summary()}")

    def summary(self) -> str:
        """What it serves, in one line."""
        where = ", ".join(map(_spelled, self.control_addresses))
        return f"serves {len(self.switchboard.board.ports)} data ports; control on {where}"

    def stopService(self) -> Deferred[None]:
        """Drain (contract section 9): the Deferred fires when nothing is left."""
        if self._stopping is not None:
            return self._stopping
        super().stopService()
        self._stopping = Deferred()
        running = self.switchboard.sessions_running()
        self.say("info", "stopping", f"stopping: {running} sessions run")
        self._listening.leave_adopted()
        self._perform(self.switchboard.drain())
        self._brokers_move = bool(self.brokering)
        if self._keeps_up():
            timeout = self.config.data.drain_timeout
            self._late = self._reactor.callLater(timeout, self._end_late)
            self.brokering.drain().addCallback(lambda _: self._give_up_brokers())
        else:
            self._wind_up()
        return self._stopping

    def _keeps_up(self) -> bool:
        """Whether a stop has to wait for what runs."""
        return self._brokers_move or bool(self.switchboard.sessions_running())

    def _give_up_brokers(self) -> None:
        """A stop waits for brokers no longer."""
        self._brokers_move = False
        self._performed()

    def drain(self) -> Draining:
        """Stop as SIGTERM does, and say how far that is; see `when_drained_on_demand`."""
        if self._stopping is None:
            self.stopService()
            self.when_drained_on_demand()
        return self.draining

    @property
    def draining(self) -> Draining:
        """How far a stop is, whatever asked for it."""
        late = self._late
        until = late.getTime() if late is not None and late.active() else 0.0
        return Draining(self._stopping is not None, self.switchboard.sessions_running(), until)

    @property
    def state(self) -> GatewayState:
        """What it is doing."""
        if self._stopping is not None:
            return GatewayState.STOPPED if self._stopping.called else GatewayState.DRAINING
        return GatewayState.READY if self.running else GatewayState.STARTING

    def end_session(self, pairing_id: str) -> None:
        """End a session at once, with the cause ``admin``."""
        self._perform(self.switchboard.end_session(pairing_id, Cause.ADMIN))

    def drop_client(self, conn: int) -> None:
        """Close a client's control connection, as if it had gone."""
        connection = self.control.get(conn)
        if connection is not None:
            connection.drop("an operator wants it")

    def _end_late(self) -> None:
        """The time for sessions to end has passed; whatever is in the way, the stop goes on."""
        self._late = self._reactor.callLater(_LAST_LIMIT, self._wind_up)
        self.end_sessions()

    def end_sessions(self) -> None:
        """End every session at once, with the cause ``drain``; wait for no broker either."""
        self._brokers_move = False
        self._perform(self.switchboard.end_sessions(Cause.DRAIN))

    def _wind_up(self) -> None:
        """No session is left: close everything, and wait for it to be gone."""
        if self._late is not None and self._late.active():
            self._late.cancel()
        self._late = None
        self._listening.end()
        self._perform.close()
        self.metrics.close()
        self._key_watch.close()
        self._listening.close_connections()
        self.brokering.stop().addCallback(
            lambda _: self._await_gone(self._reactor.seconds() + _GONE_LIMIT)
        )

    def _await_gone(self, deadline: float) -> None:
        left = self._listening.open_connections()
        if left and self._reactor.seconds() < deadline:
            self._reactor.callLater(_GONE_LOOK, self._await_gone, deadline)
            return
        self._perform.stop_ticking()
        self._stop_log_stream()
        self._listening.release()
        counts = self.switchboard.sessions_ended()
        ended = ", ".join(f"{count} {cause}" for cause, count in sorted(counts.items()))
        self.say("info", "stopped", f"stopped; sessions ended: {ended or 'none'}")
        self._record.close()
        if self._stopping is not None:
            self._stopping.callback(None)

    # events of the control plane

    def asked_to_register(
        self, conn: int, address: str, asked: Register, trace_id: str, identity: str | None = None
    ) -> None:
        """See control.protocol.Events."""

        def admit(authentic: bool) -> None:
            now = self._reactor.seconds()
            self._perform(
                self.switchboard.registered(
                    now, conn, address, asked, authentic, trace_id, identity
                )
            )

        def reject(error: PeerError) -> None:
            self._perform(self.switchboard.rejected(conn, address, error, trace_id))

        self._entrance.ask(conn, address, asked, admit, reject, identity, trace_id)

    def failed_to_register(self, conn: int, address: str, error: PeerError) -> None:
        """See control.protocol.Events."""
        self._entrance.failed(address, error)
        self._perform(self.switchboard.rejected(conn, address, error))

    def distrusted(self, conn: int, address: str, error: PeerError) -> None:
        """See control.protocol.Events."""
        client = self.switchboard.client(conn)
        who = f"{client.role} {client.client_id}" if client is not None else "a connection"
        self.say(
            "warn", "message_refused", f"a message of {who} from {address} is refused: {error}",
            role=str(client.role) if client is not None else "",
            address=address, client_id=client.client_id if client is not None else "",
            error_code=str(error.code), trace_id=error.trace_id,
        )  # fmt: skip

    def requested(self, conn: int, message: Message, msg_id: str, trace_id: str) -> None:
        """See control.protocol.Events."""
        now = self._reactor.seconds()
        self._perform(self.switchboard.requested(now, conn, message, msg_id, trace_id))

    def control_lost(self, conn: int) -> None:
        """See control.protocol.Events."""
        self._perform.telemetry.unsubscribe(conn)
        self._perform(self.switchboard.lost(self._reactor.seconds(), conn))

    def dropped(self, conn: int, address: str, why: str) -> None:
        """See control.protocol.Events."""
        client = self.switchboard.client(conn)
        who = f"{client.role} {client.client_id}" if client is not None else "a connection"
        self.say(
            "warn", "dropped", f"{who} from {address} is dropped: {why}",
            role=str(client.role) if client is not None else "",
            address=address, client_id=client.client_id if client is not None else "",
        )  # fmt: skip

    # events of the data plane

    def said_hello(self, link: int, port: int, address: str, hello: Hello) -> None:
        """See data.events.Events."""
        now = self._reactor.seconds()
        found = self.switchboard.board.ports.get(port)
        if found is not None:
            self.metrics.said_hello(found.protocol, hello.role)
        self._perform(self.switchboard.hello(now, link, port, address, hello))

    def role_by_state(self, port: int, address: str, kind: str) -> Role:
        """See data.events.Events."""
        return self.switchboard.role_by_state(self._reactor.seconds(), port, address, kind)

    def said_zmtp(
        self, link: int, port: int, address: str, username: str, password: str, kind: str
    ) -> None:
        """See data.events.Events."""
        now = self._reactor.seconds()
        self.metrics.said_hello(Protocol.ZMQ, self.role_by_state(port, address, kind))
        self._perform(self.switchboard.zmtp(now, link, port, address, username, password, kind))

    def hello_failed(self, port: int, address: str, text: str) -> None:
        """See data.events.Events."""
        self.say(
            "info", "refused", f"port {port} refuses {address}: HELLO_INVALID: {text}",
            port=port, address=address, error_code="HELLO_INVALID",
        )  # fmt: skip

    def connected_by_srt(self, connection: SrtConnection) -> None:
        """See srt.plane.Events."""
        came = connection
        self.metrics.said_hello(Protocol.SRT, came.hello.role)
        self._perform(
            self.switchboard.hello(
                self._reactor.seconds(), came.link, came.port, came.address, came.hello,
                Transport.SRT, came.publishes, came.buffered, came.caller is not None,
            )
        )  # fmt: skip

    def refused_by_srt(self, port: int, address: str, code: str, reject: int, text: str) -> None:
        """See srt.plane.Events."""
        self.say(
            "warn" if code == Code.NOT_ADMITTED else "info", "refused",
            f"srt port {port} refuses {address} with {reject or 'a reason of libsrt'}: "
            f"{code}: {text}",
            port=port, address=address, error_code=str(code),
        )  # fmt: skip

    def links_measured(self) -> None:
        """See srt.plane.Events."""
        self._feedback.measured()
        self._slow.look(self._srt_sides())

    def _srt_sides(self) -> Iterator[Watched]:
        for session in self.switchboard.board.sessions.values():
            if Transport.SRT not in (session.fe.transport, session.be.transport):
                continue
            look = self.data.look(session.pairing_id)
            if look is None:
                continue
            for link, side in ((session.fe, look.fe), (session.be, look.be)):
                if side.link is not None:
                    yield Watched(
                        session.pairing_id, link.port.number, link.role, link.client_id,
                        link.address, session.trace_id, side.link, side.dropped,
                    )  # fmt: skip

    def link_lost(self, link: int) -> None:
        """See data.events.Events."""
        self._perform(self.switchboard.link_lost(self._reactor.seconds(), link))

    def session_draining(self, pairing_id: str) -> None:
        """See data.events.Events."""
        self._perform(self.switchboard.session_draining(pairing_id))

    def session_over(self, pairing_id: str, outcome: Outcome) -> None:
        """See data.events.Events."""
        now = self._reactor.seconds()
        self._perform(self.switchboard.session_over(now, pairing_id, outcome))

    def zmq_replied(self, pattern: str, seconds: list[float]) -> None:
        """See data.events.Events."""
        self.metrics.zmq_replied(pattern, seconds)

    # effects

    def _performed(self) -> None:
        self.data.changed()
        self.brokering.changed()
        if self._late is not None and not self._keeps_up():
            self._wind_up()

    def _pair(self, effect: fx.Pair) -> None:
        self.metrics.paired(effect)
        self.data.pair(effect)

    def say(self, level: str, event: str, text: str, **fields: Any) -> None:
        """A line for the log, and for the record of who did what where it belongs there."""
        self._tell(level, event, text, fields)

    def _tell(self, level: str, event: str, text: str, fields: dict[str, Any]) -> None:
        self.metrics.noted(event, fields)
        self._record.write(self._reactor.seconds(), event, text, fields)
        if self.admin is not None:
            self.admin.note(level, event, text, fields)
        if LEVELS[level] < self._least:
            return  # nobody would see it, and a line a session costs time
        self._log.emit(LEVELS[level], "{text}", text=text, event=event, **fields)


def _spelled(address: Any) -> str:
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    if host is None:
        return str(address)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
