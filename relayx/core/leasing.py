"""Leases: granted, released, expired (contract section 5)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from relayx.core.board import Board
from relayx.core.brokered import Broker, choose
from relayx.core.codec import client_id_fault, fits, id_fault, shown
from relayx.core.directory import Client
from relayx.core.errors import Code, PeerError
from relayx.core.hello import SERVICE, SERVICE_ALLOWED
from relayx.core.leases import Lease
from relayx.core.messages import PortAcquire, PortGrant, PortRelease, Protocol, Role, Transport
from relayx.core.ports import Port, Status

DEFAULT_TTL = 30
MAX_TTL = 600


class Leasing:
    """The rules of leases, over one board."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def acquire(self, now: float, client: Client, asked: PortAcquire, trace_id: str) -> None:
        """Grant what `client` asks for, or tell it alone why not."""
        board = self._board
        try:
            lease = self._grant(now, client, asked, trace_id)
        except PeerError as error:
            request_id = asked.request_id if fits(asked.request_id) else ""
            refusal = PortGrant(
                request_id=request_id,
                session_id="",
                expires_at=0,
                error_code=error.code,
                error=error.text,
            )
            board.send(client, refusal, trace_id)
            board.note(
                "info", "refused", f"{client.role} {client.client_id} gets no lease: {error}",
                role=str(client.role), client_id=client.client_id, address=client.address,
                error_code=str(error.code), trace_id=trace_id,
            )  # fmt: skip
            return
        zmq_port, srt_port = _numbers(lease.ports)
        shared = PortGrant(
            request_id=asked.request_id,
            session_id=lease.session_id,
            expires_at=int(lease.expires * 1000),
            zmq_port=zmq_port,
            srt_port=srt_port,
            host=board.rules.advertise_host,
            transport=lease.transport,
            broker=asked.broker if lease.side is not None else "",
            side=lease.side or "",
        )
        with_ticket = msgspec.structs.replace(shared, ticket=lease.ticket)
        board.send(client, with_ticket, trace_id)
        if lease.side is None:  # the others have nothing to do for a broker's port
            others = with_ticket if client.role is Role.BE else shared
            board.broadcast(client.role.other, others, trace_id)
            board.changed()
        lease.due = board.at(lease.expires, lambda now: self.expire(now, lease))
        board.note(
            "info", "granted",
            f"{client.role} {client.client_id} leases {_listed(lease.ports)} as {lease.session_id}",
            role=str(client.role), client_id=client.client_id, address=client.address,
            session_id=lease.session_id, trace_id=trace_id, zmq_port=zmq_port, srt_port=srt_port,
        )  # fmt: skip

    def _grant(self, now: float, client: Client, asked: PortAcquire, trace_id: str) -> Lease:
        board = self._board
        brokered = bool(asked.broker) and client.v11  # what v1 does not know, it has not said
        _check(asked, brokered)
        if board.draining:
            raise PeerError(Code.DRAINING, "the gateway is stopping and grants no new lease")
        if brokered:
            return self._grant_brokered(now, client, asked, trace_id)
        wanted = [
            protocol
            for protocol, need in ((Protocol.ZMQ, asked.need_zmq), (Protocol.SRT, asked.need_srt))
            if need
        ]
        self._check_policy(client, wanted)
        pick = self._pick_ready if client.role is Role.FE else self._pick_empty
        ports = pick(wanted, asked)
        ttl = asked.ttl_seconds or DEFAULT_TTL
        lease = Lease(
            board.names.session_id(), board.names.ticket(), client, now + ttl, ports,
            asked.service, trace_id, granted=now, transport=Transport(asked.transport),
        )  # fmt: skip
        board.leases.add(lease)
        for port in ports:
            port.last_be = port.waiting_be
        return lease

    def _grant_brokered(
        self, now: float, client: Client, asked: PortAcquire, trace_id: str
    ) -> Lease:
        board = self._board
        broker, side = choose(board.ports.brokers, asked, client.role)
        self._check_policy(client, [Protocol.ZMQ])
        lease = Lease(
            board.names.session_id(), board.names.ticket(), client,
            now + (asked.ttl_seconds or DEFAULT_TTL), [board.ports[broker.port(side)]],
            trace_id=trace_id, granted=now, side=side,
        )  # fmt: skip
        board.leases.add(lease)
        return lease

    def _check_policy(self, client: Client, wanted: list[Protocol]) -> None:
        board = self._board
        policy = board.policies.of(client.asked_id)
        for protocol in wanted:
            policy.check_protocol(protocol, Code.INVALID_REQUEST)
        limit, key = board.rules.leases_per_client, "limits.leases_per_client"
        if policy.max_leases is not None and policy.max_leases < limit:
            limit, key = policy.max_leases, "max_leases of this client"
        if len(board.leases) >= limit and (held := board.leases.held_by(client)) >= limit:
            raise PeerError(
                Code.RATE_LIMITED, f"this client holds {held} leases; allowed: {limit}, {key}"
            )

    def _pick_ready(self, wanted: list[Protocol], asked: PortAcquire) -> list[Port]:
        board = self._board
        candidates: list[list[tuple[Port, object]]] = []
        for protocol in wanted:
            found: list[tuple[Port, object]] = []
            for port in board.ports.ready(protocol):
                link = port.waiting_be
                if port.lease is not None or link is None or link.hello.service != asked.service:
                    continue
                owner = board.roster.owner(link)
                if asked.be and (owner is None or owner.client_id != asked.be):
                    continue
                found.append((port, owner or (link.client_id, link.address)))
            if protocol is Protocol.SRT:
                found = self._of_transport(found, Transport(asked.transport))
            if not found:
                of = f" of BE {shown(asked.be)}" if asked.be else ""
                service = f" of service {shown(asked.service)}" if asked.service else ""
                by = " by SRT" if protocol is Protocol.SRT and asked.transport == "srt" else ""
                raise PeerError(
                    Code.PORT_EXHAUSTED, f"no {protocol} port{service}{of} is ready{by}"
                )
            candidates.append(found)
        if len(candidates) == 2:
            first_of = {be: port for port, be in reversed(candidates[1])}
            for port, be in candidates[0]:
                if be in first_of:
                    return [port, first_of[be]]
        return [found[0][0] for found in candidates]

    def _of_transport(
        self, found: list[tuple[Port, object]], transport: Transport
    ) -> list[tuple[Port, object]]:
        """The ports whose BE waits by that transport; over a bridge the others, if there is none.

        A client of the bridge gets a BE of its own transport first: a bridged session costs more.
        """
        native = transport is Transport.SRT
        fitting = [one for one in found if one[0].native == native]
        return fitting or (found if self._board.rules.srt_bridge else [])

    def _pick_empty(self, wanted: list[Protocol], asked: PortAcquire) -> list[Port]:
        ports = []
        for protocol in wanted:
            for port in self._board.ports.of(protocol):
                if port.status is Status.EMPTY and port.lease is None:
                    ports.append(port)
                    break
            else:
                raise PeerError(Code.PORT_EXHAUSTED, f"no {protocol} port is empty and unreserved")
        return ports

    def release(self, client: Client, asked: PortRelease, msg_id: str, trace_id: str) -> None:
        """End a client's own lease as a whole.

        :raises PeerError: where the lease is unknown or another's.
        """
        lease = self._board.leases.get(asked.session_id)
        if lease is None or lease.owner is not client:
            raise PeerError(
                Code.INVALID_REQUEST,
                f"session_id {shown(asked.session_id)} is no live lease of yours",
                msg_id=msg_id,
                trace_id=trace_id,
            )
        self.end(lease, lease.ports, trace_id=trace_id)

    def expire(self, now: float, lease: Lease) -> None:
        """End a lease whose time has passed on each of its ports where no session runs."""
        if lease.expires <= now:
            idle = [port for port in lease.ports if port.status is not Status.BUSY]
            self.end(lease, idle, Code.TTL_EXPIRED, by_gateway=True)

    def end_all(self, owner: Client, code: str = "") -> None:
        """End every lease of a client that is gone."""
        for lease in self._board.leases.of(owner):
            self.end(lease, lease.ports, code, by_gateway=True)

    def end_brokered(self, broker: Broker) -> None:
        """End every lease on the ports of a broker."""
        for lease in self._board.leases:
            if any(port.broker is broker for port in lease.ports):
                self.end(lease, lease.ports, Code.BE_LOST, by_gateway=True)

    def end(
        self,
        lease: Lease,
        ports: Iterable[Port],
        code: str = "",
        *,
        by_gateway: bool = False,
        trace_id: str = "",
    ) -> None:
        """End a lease on some of its ports and tell who must know (contract section 3).

        An FE that waits under the lease gets ``TTL_EXPIRED``.
        """
        ended = list(ports)
        if not ended:
            return
        board = self._board
        if any(port.reserved for port in ended):
            board.changed()
        board.leases.end(lease, ended)
        if not lease.ports:
            board.cancel(lease.due)
        zmq_port, srt_port = _numbers(ended)
        message = PortRelease(
            session_id=lease.session_id, zmq_port=zmq_port, srt_port=srt_port, error_code=code
        )
        if lease.side is None:
            board.broadcast(lease.role.other, message, trace_id)
        if by_gateway:
            board.send(lease.owner, message, trace_id)
        for port in ended:
            waiting = port.waiting_fe
            if waiting is not None:
                board.refuse(
                    waiting, Code.TTL_EXPIRED, f"the lease on port {port.number} has ended"
                )
        board.note(
            "info", "lease_ended",
            f"lease {lease.session_id} ends on {_listed(ended)}" + (f": {code}" if code else ""),
            role=str(lease.role), client_id=lease.owner.client_id, address=lease.owner.address,
            session_id=lease.session_id, error_code=code, trace_id=trace_id or lease.trace_id,
            zmq_port=zmq_port, srt_port=srt_port,
        )  # fmt: skip


def _check(asked: PortAcquire, brokered: bool) -> None:
    fault = id_fault("request_id", asked.request_id) or client_id_fault("be", asked.be or "")
    if not (asked.need_zmq or asked.need_srt or brokered):
        fault = "need_zmq and need_srt are both false; ask for one or both"
    elif not 0 <= asked.ttl_seconds <= MAX_TTL:
        fault = (
            f"ttl_seconds is {asked.ttl_seconds}; allowed: 1 to {MAX_TTL}, 0 means {DEFAULT_TTL}"
        )
    elif not SERVICE.fullmatch(asked.service):
        fault = f"service {shown(asked.service)} is not {SERVICE_ALLOWED}"
    elif asked.transport not in list(Transport):
        fault = f"transport is {shown(asked.transport)}; allowed: tcp and srt"
    elif asked.transport == Transport.SRT and not asked.need_srt:
        fault = "transport is srt and need_srt is false; only srt ports are connected to by SRT"
    if fault:
        raise PeerError(Code.INVALID_REQUEST, fault)


def _numbers(ports: Iterable[Port]) -> tuple[int, int]:
    """The zmq and the srt port among `ports`, 0 for one that is not there."""
    numbers = {port.protocol: port.number for port in ports}
    return numbers.get(Protocol.ZMQ, 0), numbers.get(Protocol.SRT, 0)


def _listed(ports: Iterable[Port]) -> str:
    return " and ".join(f"{port.protocol} port {port.number}" for port in ports)
