"""From ``register`` to its secret compared: who is refused before, and who has to wait.

Contract section 1, ``limits`` and ``clients``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from relayx.authentication import Authentication, Say
from relayx.control.factory import ControlFactory
from relayx.core.errors import Code, PeerError
from relayx.core.messages import Register
from relayx.core.policy import Policy
from relayx.net.sources import Failures, source_of
from relayx.slow_checks import SlowChecks

COUNTED = frozenset({Code.AUTH_FAILED, Code.SIGNATURE_INVALID, Code.REPLAYED})
"""Failures that tell of somebody who tries."""

PolicyOf = Callable[[Register, str | None], Policy]
Admit = Callable[[bool], None]
Reject = Callable[[PeerError], None]


class Entrance:
    """Counts the failures of each source, and has secrets compared.

    A connection whose check takes time is held meanwhile: what it says after ``register``
    waits, in its order.

    :param reactor: an IReactorTime and IReactorThreads.
    :param control: the connections.
    :param policy: what holds for a client that asks.
    :param say: writes a line in the log.
    """

    _log = Logger(namespace="relayx")

    def __init__(
        self,
        reactor: Any,
        control: ControlFactory,
        authentication: Authentication,
        policy: PolicyOf,
        failures: Failures,
        say: Say,
    ) -> None:
        self._reactor = reactor
        self._control = control
        self._authentication = authentication
        self._policy = policy
        self._failures = failures
        self._say = say
        self._checks = SlowChecks(reactor)

    def ask(
        self,
        conn: int,
        address: str,
        asked: Register,
        admit: Admit,
        reject: Reject,
        identity: str | None = None,
        trace_id: str = "",
    ) -> None:
        """Have the secret of a connection's ``register`` compared.

        :param identity: the common name of its certificate, where it has one.
        :param admit: called with whether it is right, unless the connection has ended by then.
        :param reject: called where it is not even compared, with ``RATE_LIMITED``.
        """
        source = source_of(address)
        left = self._failures.blocked_for(source, self._reactor.seconds())
        if left > 0:
            text = (
                f"too many registrations from {source} failed; it is refused for another "
                f"{math.ceil(left)} s"
            )
            reject(PeerError(Code.RATE_LIMITED, text))
            return
        self._compare(conn, address, asked, admit, reject, identity, trace_id)

    def _compare(
        self,
        conn: int,
        address: str,
        asked: Register,
        admit: Admit,
        reject: Reject,
        identity: str | None,
        trace_id: str,
    ) -> None:
        source = source_of(address)
        policy = self._policy(asked, identity)
        connection = self._control.get(conn)
        try:
            compared = self._authentication.check(
                asked, policy, lambda check: self._checks.run(source, check), trace_id, address
            )
        except PeerError as error:
            reject(error)
            if connection is not None:
                connection.go_on()
            return
        if not compared.called and connection is not None:
            connection.hold()

        def done(result: bool | Failure) -> None:
            held = self._control.get(conn)
            if held is None:
                return
            if held.closing:
                held.go_on()
                return
            if isinstance(result, Failure):
                self._log.failure("a secret could not be compared", result, trace_id=trace_id)
            elif self._policy(asked, identity) is not policy:  # changed meanwhile
                self._compare(conn, address, asked, admit, reject, identity, trace_id)
                return
            authentic = result is True
            if not authentic:
                self._count(source, trace_id)
            admit(authentic)
            held.go_on()

        compared.addBoth(done)

    def blocked_sources(self) -> int:
        """How many sources are refused for their failures now."""
        return self._failures.blocked(self._reactor.seconds())

    def failed(self, address: str, error: PeerError) -> None:
        """A connection could not register for another reason than its secret."""
        if error.code in COUNTED:
            self._count(source_of(address), error.trace_id)

    def _count(self, source: str, trace_id: str) -> None:
        failures = self._failures
        if failures.failed(source, self._reactor.seconds()):
            text = (
                f"{source} is refused for {failures.block:g} s: {failures.limit} of its "
                "registrations failed within a minute, limits.failures_per_minute"
            )
            self._say("warn", "blocked", text, address=source, trace_id=trace_id)
