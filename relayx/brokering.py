"""The brokers of one gateway: started and stopped with it, and looked after while they run.

pyzmq is imported where there are brokers to start, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from twisted.internet.defer import Deferred, succeed

from relayx.authentication import Say
from relayx.config.zmq import ZmqBroker
from relayx.core.errors import RelayError
from relayx.core.messages import Side
from relayx.zmq.counts import FULL, NO_DETAIL, UNFIT, BrokerReport, Statistics
from relayx.zmq.errors import BrokerError
from relayx.zmq.settings import BrokerSettings, Role

if TYPE_CHECKING:
    from relayx.brokerdoors import Doors
    from relayx.zmq.broker import Broker
    from relayx.zmq.brokers import Brokers

INSTALL = "pip install relayx[zmq]"

READ_EVERY = 1.0
"""Seconds between two looks at what brokers have moved, and a drain's tenth of that."""
TELL_EVERY = 0.1
LOG_EVERY = 5.0
"""Least seconds between two ``port_state``, and two log lines, about connections of a broker."""
ANSWERED_WITHIN = 60.0
"""Seconds: what was asked longer before a stop is taken for lost, with its REP or its REQ."""
STOP_WITHIN = 5.0
"""Seconds beyond ``linger`` after which a stop is taken to hang."""


_FITTING = {"pub_sub": ("PUB", "SUB"), "push_pull": ("PUSH", "PULL"), "req_rep": ("REQ", "REP")}
"""Who connects to the frontend of each pattern, and who to the backend."""
_HINTS = {
    UNFIT: "of a socket type that is not for this side, or of ZMTP before 3.0",
    NO_DETAIL: "broken off by the peer, as if it were not for this side",
}
"""Of a socket type that does not fit, both sides know, and either may hang up first."""


class BrokersMissingError(RelayError):
    """There are brokers to start, and no pyzmq that could."""


class Brokering:
    """Runs brokers for a service.

    :param reactor: an IReactorTime and IReactorThreads.
    :param entries: ``zmq.brokers`` of the configuration.
    :param doors: who may connect.
    :param say: writes a line in the log.
    :param clients: told how many connections are open, by the frontend's port and by side.
    :param connected: told how many more connections there have been on a side.
    :param ended: told the frontend's port of a broker that has ended by itself.
    """

    def __init__(
        self,
        reactor: Any,
        entries: Sequence[ZmqBroker],
        doors: Doors,
        say: Say,
        clients: Callable[[int, Mapping[Side, int]], None],
        connected: Callable[[Side, int], None],
        ended: Callable[[int], None],
    ) -> None:
        self._reactor = reactor
        self._settings: tuple[BrokerSettings, ...] = ()
        self._say = say
        self._doors = doors
        self._clients = clients
        self._connected = connected
        self._ended = ended
        self._brokers: Brokers | None = None
        self._reports = [
            BrokerReport(
                pattern=one.pattern, frontend=one.frontend, backend=one.backend,
                security=one.security,
            )
            for one in entries
        ]  # fmt: skip
        self._logged = [(-LOG_EVERY, report) for report in self._reports]
        self._counted = [(0, 0)] * len(self._reports)
        self._calls: dict[str, Any] = {}

    def __bool__(self) -> bool:
        """Whether brokers listen."""
        return self._brokers is not None

    @property
    def reports(self) -> tuple[BrokerReport, ...]:
        """Each broker, in the order of the configuration; the last numbers after a stop."""
        self._read()
        return tuple(self._reports)

    @property
    def running(self) -> tuple[Broker, ...]:
        """The brokers themselves, none before the start and after the stop."""
        return () if self._brokers is None else self._brokers.brokers

    # starting

    def listen(self, settings: Sequence[BrokerSettings]) -> None:
        """Listen on the ports of all brokers, or on none.

        :param settings: of each entry, in their order.
        :raises BrokersMissingError: where pyzmq cannot be had.
        :raises relayx.zmq.errors.BrokerError: where a port cannot be listened on.
        """
        if not settings:
            return
        self._settings = tuple(settings)
        try:
            from relayx.zmq.brokers import Brokers
        except ImportError as error:
            raise BrokersMissingError(
                f"zmq.brokers needs pyzmq, which cannot be had ({error}): {INSTALL}"
            ) from None
        brokers = Brokers(
            self._reactor, self._settings, self, check=self._doors.check, allow=self._doors.allow
        )
        brokers.listen()
        self._brokers = brokers

    def unlisten(self) -> None:
        """Take :meth:`listen` back, where nothing has been started."""
        if self._brokers is not None:
            self._brokers.unlisten()
            self._brokers = None

    def start(self) -> None:
        """Move messages from now on."""
        if self._brokers is None:
            return
        self._brokers.start()
        for one in self._settings:
            self._say(
                "info", "broker",
                f"a {one.pattern} broker serves ports {one.frontend} (frontend) and "
                f"{one.backend} (backend), security {one.security}",
                port=one.frontend,
            )  # fmt: skip
        for side in Side:
            self._connected(side, 0)  # there from the start
        self._ask()

    def change(self, settings: Sequence[BrokerSettings]) -> None:
        """Admit other keys of clients from now on; nothing else of a broker can change."""
        if self._brokers is not None:
            for number, one in enumerate(settings):
                self._brokers.admit_keys(number, one.curve_clients)

    def changed(self) -> None:
        """The rules' state may have changed."""
        if self._brokers is not None:
            self._doors.changed()

    # stopping

    def drain(self) -> Deferred[None]:
        """Fires once nothing moves any more, as far as libzmq tells.

        That is where, of two looks, the second finds no message more, no backend that takes
        nothing, and no request without its answer but older ones. Who is connected stays so;
        whoever comes is refused by the doors.
        """
        if self._brokers is None:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._look_drained(done, None, self._reactor.seconds() - ANSWERED_WITHIN)
        return done

    def stop(self) -> Deferred[None]:
        """End all; fires when their threads have ended, or when that takes too long."""
        brokers = self._brokers
        if brokers is None:
            return succeed(None)
        self._read()
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()
        self._brokers = None
        linger = max(one.linger for one in self._settings) / 1000
        done: Deferred[None] = Deferred()
        late = self._reactor.callLater(linger + STOP_WITHIN, self._hangs, done)

        def ended(result: Any) -> None:
            if late.active():
                late.cancel()
                self._say("info", "broker", f"{len(self._settings)} brokers have stopped")
                done.callback(None)

        brokers.stop().addBoth(ended)
        return done

    def _hangs(self, done: Deferred[None]) -> None:
        self._say("error", "broker", "the brokers do not end; they are left behind")
        done.callback(None)

    def _look_drained(
        self, done: Deferred[None], before: tuple[Statistics, ...] | None, since: float
    ) -> None:
        brokers = self._brokers
        if brokers is None:  # stopped meanwhile
            done.callback(None)
            return

        def looked(now: tuple[Statistics, ...]) -> None:
            recent = self._reactor.seconds() - since
            waits = any(one.stalled for one in now) or any(
                one.owes_answers(recent) for one in self.running
            )
            if now == before and not waits:
                done.callback(None)
            else:
                self._later("drain", READ_EVERY / 10, self._look_drained, done, now, since)

        self._statistics(brokers).addCallback(looked)

    # looking

    def _statistics(self, brokers: Brokers) -> Deferred[tuple[Statistics, ...]]:
        """Of all; fires within a second or so."""
        found: list[Statistics | None] = [None] * len(brokers.brokers)
        done: Deferred[tuple[Statistics, ...]] = Deferred()

        def came(one: Statistics, index: int) -> None:
            found[index] = one
            self._change(index, moved=one, stalled=one.stalled)
            if None not in found:
                done.callback(tuple(each for each in found if each is not None))

        for index, broker in enumerate(brokers.brokers):
            broker.statistics().addCallback(came, index)
        return done

    def _ask(self) -> None:
        brokers = self._brokers
        if brokers is not None:
            self._statistics(brokers).addCallback(
                lambda _: self._later("ask", READ_EVERY, self._ask)
            )

    def _later(self, name: str, seconds: float, call: Callable[..., None], *args: Any) -> None:
        """Call later, once however often it is asked for, and not after a stop."""

        def due() -> None:
            del self._calls[name]
            call(*args)

        if self._brokers is not None and name not in self._calls:
            self._calls[name] = self._reactor.callLater(seconds, due)

    def _read(self) -> None:
        """What the brokers' own counts say now."""
        brokers = self._brokers
        for index, broker in enumerate(() if brokers is None else brokers.brokers):
            sides = [broker.connections[role] for role in Role]
            self._change(
                index,
                live=tuple(side.live for side in sides),
                accepted=tuple(side.accepted for side in sides),
                failures=dict(broker.handshake_failures),
                moved=broker.moved,
                durations=broker.durations,
            )

    def _change(self, index: int, **now: Any) -> None:
        self._reports[index] = msgspec.structs.replace(self._reports[index], **now)

    # relayx.zmq.broker.BrokerEvents

    def connectionsChanged(self, broker: Broker) -> None:
        """See BrokerEvents."""
        self._later("tell", TELL_EVERY, self._tell)

    def brokerEnded(self, broker: Broker, reason: BrokerError) -> None:
        """See BrokerEvents."""
        port = broker.settings.frontend
        for index, one in enumerate(self._settings):
            if one.frontend == port:
                self._change(index, running=False)
        self._say(
            "error", "broker_ended",
            f"the {broker.settings.pattern} broker of port {port} has ended by itself, and is "
            f"back with a restart: {reason}",
            port=port,
        )  # fmt: skip
        self._ended(port)

    def _tell(self) -> None:
        self._read()
        for index, now in enumerate(self._reports):
            before, self._counted[index] = self._counted[index], now.accepted
            for side, was, count in zip(Side, before, now.accepted, strict=True):
                if count > was:
                    self._connected(side, count - was)
            if now.running:
                self._clients(now.frontend, dict(zip(Side, now.live, strict=True)))
        self._log_connections()

    def _log_connections(self) -> None:
        """A line about each broker whose connections are others, now and then."""
        now = self._reactor.seconds()
        for index, report in enumerate(self._reports):
            at, was = self._logged[index]
            if (report.live, report.accepted, report.failures) == (
                was.live, was.accepted, was.failures or dict.fromkeys(report.failures, 0)
            ):  # fmt: skip
                continue
            if now - at < LOG_EVERY:
                self._later("log", LOG_EVERY, self._log_connections)
                continue
            self._logged[index] = now, report
            failed = {
                reason: count - was.failures.get(reason, 0)
                for reason, count in report.failures.items()
                if count > was.failures.get(reason, 0)
            }
            self._say(
                "warn" if failed else "info", "broker_connections",
                f"the {report.pattern} broker of port {report.frontend} has {report.live[0]} "
                f"connections at its frontend and {report.live[1]} at its backend"
                + "".join(f"; {_failed(report, why, count)}" for why, count in failed.items()),
                port=report.frontend,
            )  # fmt: skip


def _failed(report: BrokerReport, why: str, count: int) -> str:
    """What the log says of handshakes that failed."""
    if why == FULL:
        return f"{count} connections closed, since a side had its max_connections"
    text = f"{count} handshakes failed: {why}"
    if why not in _HINTS:
        return text
    front, back = _FITTING[report.pattern]
    return (
        f"{text}, {_HINTS[why]}: {front} connects to the frontend, port {report.frontend}, and "
        f"{back} to the backend, port {report.backend}"
    )
