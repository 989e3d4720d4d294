"""Who may connect: the ZAP handler of all brokers (ZeroMQ RFC 27)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import zmq
from twisted.python import log
from zmq.utils import z85

from relayx.zmq.attendant import Attendant
from relayx.zmq.settings import BrokerSettings, Role, Security, Side

ENDPOINT = "inproc://zeromq.zap.01"
AT_ONCE, MOST = 2, 256
"""Checks at the same time, and under way altogether; the next peer is told to come again."""

Check = Callable[[str, str, str, Side], bool]
"""Whether user name, password and address may connect to a side; in a thread, may be slow."""
Allow = Callable[[str, Side], bool]
"""Whether an address may; in the ZeroMQ thread, may not be slow."""

_GOOD, _LATER, _REFUSED, _BROKEN = (
    (b"200", b"OK"),
    (b"300", b"too many at once"),
    (b"400", b"refused"),
    (b"500", b"could not be checked"),
)
_FIELDS = 6  # version, request id, domain, address, identity, mechanism


def domain(number: int, role: Role) -> str:
    """The ZAP domain of a side of the broker with that number."""
    return f"relayx.{number}.{role}"


class Zap:
    """Answers libzmq, which asks for each connection before its peer may say anything.

    Whatever a check raises, the peer is refused, and the error logged.

    :param check: for PLAIN; None refuses all.
    :param allow: for every mechanism, before anything else; None allows all.
    """

    def __init__(self, attendant: Attendant, check: Check | None, allow: Allow | None) -> None:
        self._attendant = attendant
        self._check = check
        self._allow = allow
        self._sides: dict[bytes, tuple[BrokerSettings, Role]] = {}
        self._before: dict[bytes, Callable[[], None]] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, "relayx-zap")
        self._checks = 0
        self._socket = attendant.context.socket(zmq.ROUTER)

    def start(self) -> None:
        """Answer from now on.

        :raises zmq.ZMQError: where the context has a handler already.
        """
        self._socket.bind(ENDPOINT)
        self._attendant.call(self._attendant.adopt, self._socket, self._asked)

    def add(self, number: int, settings: BrokerSettings) -> None:
        """Know the domains of a broker, before it listens, or know it otherwise from now on."""
        for role in Role:
            self._sides[domain(number, role).encode()] = (settings, role)

    def before(self, number: int, call: Callable[[], None]) -> None:
        """Have something called in the ZeroMQ thread before any peer of a broker is let in."""
        for role in Role:
            self._before[domain(number, role).encode()] = call

    def stop(self) -> None:
        """Wait for checks under way; not in the reactor. The attendant closes the socket."""
        self._pool.shutdown(cancel_futures=True)

    def _asked(self, frames: list[zmq.Frame]) -> None:
        message = [frame.bytes for frame in frames]
        cut = message.index(b"") + 1
        envelope, request = message[:cut], message[cut:]
        if len(request) < _FIELDS or request[0] != b"1.0":
            log.msg("a ZAP request that is none of version 1.0")
            return
        envelope += [b"1.0", request[1]]
        try:
            self._decide(envelope, request)
        except Exception:
            log.err(None, "a ZAP request could not be answered")
            self._answer(envelope, _BROKEN)

    def _decide(self, envelope: list[bytes], request: list[bytes]) -> None:
        self._before[request[2]]()
        settings, role = self._sides[request[2]]
        address, mechanism, credentials = request[3].decode(), request[5], request[_FIELDS:]
        side = settings.side(role)
        if mechanism != settings.security.upper().encode() or (
            self._allow is not None and not self._allow(address, side)
        ):
            self._answer(envelope, _REFUSED)
        elif settings.security is Security.PLAIN:
            self._check_plain(envelope, credentials, address, side)
        elif settings.security is Security.CURVE and settings.curve_clients is not None:
            key = z85.encode(credentials[0]).decode()
            good = key in settings.curve_clients
            self._answer(envelope, _GOOD if good else _REFUSED, key)
        else:
            self._answer(envelope, _GOOD)

    def _check_plain(
        self, envelope: list[bytes], credentials: list[bytes], address: str, side: Side
    ) -> None:
        try:
            name, password = (text.decode() for text in credentials)
        except ValueError:  # not two, or not UTF-8
            self._answer(envelope, _REFUSED)
            return
        if self._check is None:
            self._answer(envelope, _REFUSED)
        elif self._checks >= MOST:
            self._answer(envelope, _LATER)
        else:
            self._checks += 1
            found = self._pool.submit(self._check, name, password, address, side)
            found.add_done_callback(
                lambda found: self._attendant.call(self._checked, envelope, name, found)
            )

    def _checked(self, envelope: list[bytes], name: str, found: Future[bool]) -> None:
        self._checks -= 1
        if found.cancelled():
            return
        error = found.exception()
        if error is not None:
            log.err(error, "the check of a ZeroMQ peer failed")
            self._answer(envelope, _BROKEN)
        else:
            self._answer(envelope, _GOOD if found.result() else _REFUSED, name)

    def _answer(self, envelope: list[bytes], status: tuple[bytes, bytes], user: str = "") -> None:
        answer = [*envelope, *status, user.encode() if status is _GOOD else b"", b""]
        try:
            self._socket.send_multipart(answer, zmq.DONTWAIT)
        except zmq.ZMQError as error:
            log.msg(f"a ZAP answer could not be sent: {error}")
