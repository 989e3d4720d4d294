"""Who may connect to a broker: asked by libzmq in its threads, decided by the gateway's rules.

Contract section 6: ``data.admission`` holds here too. With ``peer`` the address must be that of
a registered client, of either role; with ``ticket`` PLAIN or CURVE has to admit, and the check of
the configuration sees to that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from relayx.authentication import Authentication, Say
from relayx.core.admission import PEER
from relayx.core.codec import client_id_fault, shown
from relayx.core.directory import Directory
from relayx.core.errors import PeerError
from relayx.core.messages import Protocol, Register, Role
from relayx.core.policy import Policy
from relayx.net.address import plain
from relayx.net.sources import Failures, Seldom, source_of
from relayx.slow_checks import SlowChecks
from relayx.zmq.settings import Side

ANSWER_WITHIN = 20.0
"""Seconds in which the gateway's thread answers; libzmq's own handshake interval is 30 s."""


class Sight(msgspec.Struct, frozen=True):
    """What is looked at from other threads: a copy that nobody changes.

    :ivar admission: ``data.admission``.
    :ivar draining: whether nobody new is taken.
    """

    admission: str
    roster: Directory
    draining: bool = False


class Doors:
    """Answers both questions of :mod:`relayx.zmq.zap`.

    :param reactor: an IReactorTime and IReactorThreads, whose thread has all the rest.
    :param policy: what holds for a client's id.
    :param failures: of registrations; wrong passwords count among them.
    :param say: writes a line in the log.
    :param look: copies what the rules know, in the reactor's thread.
    """

    def __init__(
        self,
        reactor: Any,
        authentication: Authentication,
        policy: Callable[[str], Policy],
        failures: Failures,
        say: Say,
        look: Callable[[], Sight],
    ) -> None:
        self._reactor = reactor
        self._authentication = authentication
        self._policy = policy
        self._failures = failures
        self._say = say
        self._look = look
        self._checks = SlowChecks(reactor)
        self._refused = Seldom()
        self._told = Seldom()  # the ZeroMQ thread's
        self._sight = look()

    def changed(self) -> None:
        """The rules' state may have changed; in the reactor's thread."""
        self._sight = self._look()

    # asked by other threads

    def allow(self, address: str, side: Side) -> bool:
        """Whether an address may connect to a side; in the ZeroMQ thread."""
        sight, host = self._sight, plain(address)
        if sight.draining:
            return False
        if sight.admission != PEER:
            return True
        now = self._reactor.seconds()
        if any(sight.roster.is_present(role, host, now) for role in Role):
            return True
        if self._told.may(f"{host} {side.port}", time.monotonic()):
            text = "no client is registered from there; data.admission is peer, which admits the " \
                "addresses of registered clients"  # fmt: skip
            self._reactor.callFromThread(self._note, "", host, side, text)
        return False

    def check(self, username: str, password: str, address: str, side: Side) -> bool:
        """Whether a name and a password of PLAIN are right; in a thread that may wait."""
        answer: Future[bool] = Future()

        def ask() -> None:
            def done(result: bool | Failure) -> None:
                if isinstance(result, Failure):
                    answer.set_exception(result.value)
                else:
                    answer.set_result(result)

            self.ask(username, password, plain(address), side).addBoth(done)

        self._reactor.callFromThread(ask)
        return answer.result(ANSWER_WITHIN)

    # in the reactor's thread

    def ask(self, username: str, password: str, address: str, side: Side) -> Deferred[bool]:
        """Compare a password with the secret that the client of that id registers with.

        The id must be one that may register in some role and use zmq ports.

        :param address: in its usual spelling.
        """
        source = source_of(address)
        if self._failures.blocked_for(source, self._reactor.seconds()) > 0:
            self._note(username, address, side, "too many failures from there")
            return succeed(False)
        policy = self._policy(username)
        if client_id_fault("username", username) or not username or not policy.roles:
            return self._compared(False, username, address, side)
        if Protocol.ZMQ not in policy.protocols:
            self._note(username, address, side, "this client may not use zmq ports")
            return succeed(False)
        asked = Register(role=policy.roles[0], secret=password, client_id=username)
        try:
            compared = self._authentication.check(
                asked, policy, lambda check: self._checks.run(source, check), "", address
            )
        except PeerError as error:
            self._note(username, address, side, error.text)
            return succeed(False)

        def look_again(right: bool) -> Deferred[bool]:
            if self._policy(username) is not policy:  # changed meanwhile
                return self.ask(username, password, address, side)
            return self._compared(right, username, address, side)

        return compared.addCallback(look_again)

    def _compared(self, right: bool, username: str, address: str, side: Side) -> Deferred[bool]:
        if not right:
            self._note(username, address, side, "the name or the password is wrong")
            source, failures = source_of(address), self._failures
            if failures.failed(source, self._reactor.seconds()):
                text = (
                    f"{source} is refused for {failures.block:g} s: {failures.limit} of its "
                    "attempts failed within a minute, limits.failures_per_minute"
                )
                self._say("warn", "blocked", text, address=source)
        return succeed(right)

    def _note(self, username: str, address: str, side: Side, why: str) -> None:
        if self._refused.may(f"{address} {side.port} {why}", self._reactor.seconds()):
            who = f"{shown(username)} from {address}" if username else address
            self._say(
                "warn", "broker_refused",
                f"the {side.pattern} broker's {side.role}, port {side.port}, refuses {who}: {why}",
                port=side.port, address=address, client_id=shown(username)[1:-1],
            )  # fmt: skip
