"""The gateway as a Twisted service: where effects become I/O.

It owns the switchboard (the rules) and both planes (the bytes). Everything that happens goes the
same way: the event to the switchboard, its effects to :mod:`relayx.performing`, and from there to
the planes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from relayx import __version__
from relayx.admin.gateway import Metrics as Scrape
from relayx.admin.model import GatewayState
from relayx.adminport import AdminPort
from relayx.audit import Record
from relayx.authentication import Authentication
from relayx.brokerdoors import Doors, Sight
from relayx.brokering import Brokering
from relayx.config.faults import Fault
from relayx.config.model import Config, Secrets
from relayx.control.factory import ControlFactory
from relayx.core import effects as fx
from relayx.core.errors import PeerError
from relayx.core.glance import Snapshot, glance
from relayx.core.messages import Cause, Message, Register, Side
from relayx.core.policy import Policy
from relayx.core.switchboard import Switchboard
from relayx.entrance import Entrance
from relayx.impact import Impact
from relayx.linkfeedback import LinkFeedback
from relayx.listening import Listening
from relayx.logs import LEVELS
from relayx.logstreaming import LogStreaming
from relayx.metrics import CONTENT_TYPE, Metrics, Sources
from relayx.naming import RandomNames
from relayx.net.inherited import Inherited
from relayx.net.sources import Failures
from relayx.performing import Performing
from relayx.planeevents import PlaneEvents
from relayx.planes import Planes
from relayx.reloading import Parts, Reloading, StartedFrom
from relayx.repeats import Repeats
from relayx.settings import control_settings, data_settings, policies, rules
from relayx.slowlinks import SlowLinks, watched
from relayx.starting import Starting
from relayx.stopping import Draining, Stopping
from relayx.trust import KeyWatch

STOPPING = "the gateway is stopping, and reloads nothing"
"""Why a reload is refused from SIGTERM on."""


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
        self.control = ControlFactory(
            reactor, control_settings(config), self, names, self._key_watch.trust
        )
        limits = config.limits
        failures = Failures(limits.failures_per_minute, limits.failure_block)
        self._entrance = Entrance(
            reactor, self.control, self.authentication, self.switchboard.policy, failures,
            self.say,
        )  # fmt: skip
        happens = PlaneEvents(
            reactor, self.switchboard, lambda effects: self._perform(effects),
            lambda: self.metrics, self.say, self._links_measured,
        )  # fmt: skip
        self.data = Planes(reactor, data_settings(config), happens, self._glance)
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
        self._record = Record(reactor, lambda text: self._log.error("{text}", text=text))
        self._starting = Starting(
            self._record, self._key_watch, self.data, self.brokering, self._listening, self.say
        )
        self._stopping = Stopping(
            reactor, self.switchboard, self._perform, self.brokering, self._listening, self.say,
            self._close_own, self._release_own, self._record.close,
        )  # fmt: skip
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
        self.log_streaming = LogStreaming(
            reactor, self.control, self.switchboard, self.repeats, config.log
        )
        self.metrics = self._build_metrics()
        scrape = Scrape(CONTENT_TYPE, self.metrics.render)
        self.admin = AdminPort(reactor, self, scrape) if config.http.endpoint else None
        self._listening.admin = self.admin

    def _reloaded(self, config: Config) -> None:
        before, self.config, self.secrets = self.config, config, self.reloading.secrets
        self.metrics.reloaded(self.reloading.revision)
        self._least = LEVELS[config.log.level]
        if config.log != before.log:
            self.log_streaming.change(config.log)

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
                stream_lines_dropped=lambda: self.log_streaming.lines_dropped,
                audit_lines_lost=lambda: self._record.lost,
                repeated_lines=self._repeated_lines,
                brokers=lambda: self.brokering.reports,
            )
        )

    def _repeated_lines(self) -> int:
        left_out = sum(repeats.left_out for repeats in self.repeats)
        return self.log_streaming.left_out_before + left_out

    # starting and stopping

    def privilegedStartService(self) -> None:
        """Listen on every port, or on none.

        :raises relayx.listening.BindError: naming the first port that cannot be bound.
        :raises relayx.listening.StartError: where a file cannot be used.
        """
        self._starting.begin(self.config, self.secrets, self.switchboard.board.ports)
        self.log_streaming.start()
        self.reloading.listens = True
        super().privilegedStartService()

    def plan_reload(self, config: Config | None = None, secrets: Secrets | None = None) -> Impact:
        """What :meth:`reload` would do; nothing changes.

        :raises ConfigError: where the files are wrong. What is right and cannot be applied is
            told in the `faults` of the answer.
        """
        impact = self.reloading.plan(config, secrets)
        if not self._stopping.begun:
            return impact
        stopping = Fault("relayx", "", "", STOPPING)
        return msgspec.structs.replace(impact, faults=(stopping, *impact.faults))

    def reload(self, config: Config | None = None, secrets: Secrets | None = None) -> Impact:
        """Take the configuration anew, with secrets, keys and certificates: all or nothing.

        Nobody is dropped but those who wait on ports that are no longer there.

        :param config: instead of what the file says; `secrets` likewise.
        :raises ConfigError: with what is wrong; everything stays as it was.
        """
        if self._stopping.begun:
            raise self.reloading.refuse(STOPPING)
        return self.reloading.reload(config, secrets)

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
        if not self._stopping.begun:
            super().stopService()
        return self._stopping.begin(self.config.data.drain_timeout)

    def drain(self) -> Draining:
        """Stop as SIGTERM does, and say how far that is; see `when_drained_on_demand`."""
        if not self._stopping.begun:
            self.stopService()
            self.when_drained_on_demand()
        return self.draining

    @property
    def draining(self) -> Draining:
        """How far a stop is, whatever asked for it."""
        return self._stopping.progress

    @property
    def state(self) -> GatewayState:
        """What it is doing."""
        if self._stopping.begun:
            return GatewayState.STOPPED if self._stopping.over else GatewayState.DRAINING
        return GatewayState.READY if self.running else GatewayState.STARTING

    def end_session(self, pairing_id: str) -> None:
        """End a session at once, with the cause ``admin``."""
        self._perform(self.switchboard.end_session(pairing_id, Cause.ADMIN))

    def drop_client(self, conn: int) -> None:
        """Close a client's control connection, as if it had gone."""
        connection = self.control.get(conn)
        if connection is not None:
            connection.drop("an operator wants it")

    def end_sessions(self) -> None:
        """End every session at once, with the cause ``drain``; wait for no broker either."""
        self._stopping.end_sessions()

    def _close_own(self) -> None:
        """No session is left."""
        self._perform.close()
        self.metrics.close()
        self._key_watch.close()

    def _release_own(self) -> None:
        """No connection is left."""
        self._perform.stop_ticking()
        self.log_streaming.stop()

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

    # effects

    def _performed(self) -> None:
        self.brokering.changed()
        self._stopping.performed()

    def _links_measured(self) -> None:
        self._feedback.measured()
        self._slow.look(watched(self.switchboard, self.data))

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
