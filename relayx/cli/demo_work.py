"""The demo's back end and front ends: bytes there and back, counted at both ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults

from relayx.cli.connecting import first_connection
from relayx.cli.demo_data import CHUNK, Part, Source
from relayx.cli.demo_result import Trip
from relayx.cli.running import Failed
from relayx.cli.transfer import Receipt, Tally
from relayx.client import Backend, Frontend, Gateway, LeasedSession, Session
from relayx.core.messages import Protocol

CONNECT_TIMEOUT = 20.0
SESSION_TIMEOUT = 20.0

Count = Callable[[int], None]
"""Told of more bytes that have come back."""


def protocol_of(number: int) -> Protocol:
    """The label of an FE's port: the first FE's is zmq, the second's srt, and so on."""
    return (Protocol.ZMQ, Protocol.SRT)[number % 2]


def marks(sessions: int) -> tuple[int, int]:
    """How many zmq and srt ports that many sessions need."""
    return (sessions + 1) // 2, sessions // 2


class EchoBackend:
    """A BE that sends back what it gets, and knows what it got by its own count."""

    def __init__(self, reactor: Any, gateway: Gateway, sessions: int) -> None:
        zmq, srt = marks(sessions)
        self._got: dict[str, Receipt] = {}
        self.backend = Backend(
            reactor, gateway, "", zmq, srt, on_session=self._serve, client_id="demo-be"
        )

    async def _serve(self, session: Session) -> None:
        stream = session.stream
        tally = Tally()
        while data := await stream.read(CHUNK):
            tally.add(data)
            await stream.write(data)
        self._got[session.paired.pairing_id] = tally.receipt

    def got(self, pairing_id: str) -> Receipt:
        """What it got in a session that has ended.

        :raises Failed: where it did not come to that session's end.
        """
        try:
            return self._got[pairing_id]
        except KeyError:
            raise Failed(f"the back end did not see the end of session {pairing_id}") from None


async def round_trips(
    reactor: Any, gateway: Gateway, source: Source, shares: list[Part], counts: list[Count]
) -> list[Trip]:
    """Send each part through a session of its own, all at once, and have it back.

    :param counts: one a part.
    """
    echo = EchoBackend(reactor, gateway, len(shares))
    frontends = [Frontend(reactor, gateway, f"demo-fe-{n}") for n in range(1, len(shares) + 1)]
    trips: list[Deferred[Trip]] = []
    try:
        echo.backend.start()
        await first_connection(reactor, echo.backend.control, CONNECT_TIMEOUT)
        for number, frontend in enumerate(frontends):
            frontend.start()
            trip = _round_trip(frontend, echo, protocol_of(number), source, shares[number])
            trips.append(Deferred.fromCoroutine(trip(counts[number])))
        return await gatherResults(trips, consumeErrors=True)
    except FirstError as error:
        return error.subFailure.raiseException()
    finally:
        echo.backend.done.addErrback(lambda _: None)
        for running in trips:
            running.addErrback(lambda _: None)
            running.cancel()
        for frontend in frontends:
            await frontend.stop()
        await echo.backend.stop()


def _round_trip(
    frontend: Frontend, echo: EchoBackend, protocol: Protocol, source: Source, part: Part
) -> Any:
    async def trip(count: Count) -> Trip:
        session = await frontend.open_session(protocol, timeout=SESSION_TIMEOUT)
        begun = time.monotonic()
        returning = Deferred.fromCoroutine(_take_back(session, count))
        try:
            sent = await _send(session, source, part)
            back = await returning
        except BaseException:
            returning.addErrback(lambda _: None)
            session.stream.abort()
            raise
        ended = time.monotonic()
        await session.release()
        return Trip(
            port=f"{session.protocol} {session.port}",
            wanted=part.size,
            begun=begun,
            ended=ended,
            sent=sent,
            at_be=echo.got(session.paired.pairing_id),
            back=back,
        )

    return trip


async def _send(session: LeasedSession, source: Source, part: Part) -> Receipt:
    tally = Tally()
    while tally.bytes < part.size:
        left = part.size - tally.bytes
        data = source.read(part.offset + tally.bytes, min(CHUNK, left))
        if not data:
            break  # a file that has become shorter; its digests will tell
        tally.add(data)
        await session.stream.write(data)
    session.stream.end()
    return tally.receipt


async def _take_back(session: LeasedSession, count: Count) -> Receipt:
    tally = Tally()
    while data := await session.stream.read(CHUNK):
        tally.add(data)
        count(len(data))
    await session.stream.closed()
    return tally.receipt
