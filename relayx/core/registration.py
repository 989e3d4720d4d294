"""Clients: registered, taking over, lost, reaped (contract sections 3 and 8)."""

from __future__ import annotations

from relayx.core import effects as fx
from relayx.core.board import Board
from relayx.core.codec import client_id_fault, id_fault, shown
from relayx.core.directory import TAKEOVERS_TOLD, Client
from relayx.core.errors import Code, PeerError
from relayx.core.leasing import Leasing
from relayx.core.messages import (
    PROTOCOL_VERSION,
    Auth,
    Cause,
    Error,
    KeyExchange,
    Register,
    Role,
)
from relayx.core.policy import Policy


class Registration:
    """The rules of control connections, over one board."""

    def __init__(self, board: Board, leasing: Leasing) -> None:
        self._board = board
        self._leasing = leasing

    def register(
        self,
        now: float,
        conn: int,
        address: str,
        asked: Register,
        authentic: bool,
        trace_id: str,
        identity: str | None = None,
    ) -> None:
        """Answer the first message of a connection.

        :param authentic: whether the secret is right.
        :param identity: the common name in the client's certificate, "" where there is not
            exactly one; None where no certificate was asked for.
        """
        try:
            role = self._check(asked, authentic)
            _check_identity(asked, identity)
            self.policy(asked, identity).check_role(role)
            replaced = self._replaced(role, asked, identity)
            self._check_capacity(role, replaced)
        except PeerError as error:
            self.reject(conn, address, error, trace_id, asked)
            return
        self._admit(now, conn, address, asked, role, replaced, trace_id, identity)

    def policy(self, asked: Register, identity: str | None = None) -> Policy:
        """What holds for a client that asks to register, whoever it is.

        :param identity: the common name of its certificate, which names it where it does not.
        """
        board = self._board
        same = None
        if asked.instance and asked.role in list(Role):
            same = _same(self._replaced(Role(asked.role), asked, identity), asked)
        return board.policies.of(same.asked_id if same else asked.client_id or identity or "")

    def _replaced(self, role: Role, asked: Register, identity: str | None) -> list[Client]:
        """Whose place a client takes; with a certificate, only that of its own name's."""
        found = self._board.roster.predecessors(role, asked.client_id, asked.instance)
        return [old for old in found if identity is None or old.client_id == identity]

    def reject(
        self,
        conn: int,
        address: str,
        error: PeerError,
        trace_id: str = "",
        asked: Register | None = None,
    ) -> None:
        """Answer with ``auth`` and an error, then close."""
        board = self._board
        answer = Auth(status="error", error_code=error.code, error=error.text)
        board.emit(fx.Send(conn, answer, trace_id))
        board.emit(fx.CloseControl(conn))
        # Who tries on while it is refused must not fill the log; it was warned of before.
        limited = error.code is Code.RATE_LIMITED
        level, event = ("debug", "register_limited") if limited else ("warn", "register_failed")
        board.note(
            level, event, f"control connection from {address} is refused: {error}",
            role=shown(asked.role)[1:-1] if asked else "",
            client_id=shown(asked.client_id)[1:-1] if asked else "",
            address=address, error_code=str(error.code), trace_id=trace_id,
        )  # fmt: skip

    def _check(self, asked: Register, authentic: bool) -> Role:
        if not authentic:
            raise PeerError(Code.AUTH_FAILED, "the secret is wrong")
        if self._board.draining:
            raise PeerError(Code.DRAINING, "the gateway is stopping and registers nobody")
        if asked.role not in list(Role):
            raise PeerError(
                Code.INVALID_REQUEST, f"role is {shown(asked.role)}; allowed: FE and BE"
            )
        fault = client_id_fault("client_id", asked.client_id)
        if fault := fault or id_fault("instance", asked.instance):
            raise PeerError(Code.INVALID_REQUEST, fault)
        return Role(asked.role)

    def _check_capacity(self, role: Role, replaced: list[Client]) -> None:
        roster, rules = self._board.roster, self._board.rules
        limit = rules.max_fe if role is Role.FE else rules.max_be
        if any(not client.lost for client in replaced):  # there will not be more of them
            return
        if roster.count(role) >= limit:
            raise PeerError(
                Code.CAPACITY, f"{limit} {role}s are registered, which is relay.max_{role.lower()}"
            )

    def _admit(
        self,
        now: float,
        conn: int,
        address: str,
        asked: Register,
        role: Role,
        replaced: list[Client],
        trace_id: str,
        identity: str | None,
    ) -> None:
        board = self._board
        same = _same(replaced, asked)
        name = asked.client_id or identity
        name = name or (same.client_id if same else board.names.client_id(role))
        v11 = asked.protocol == PROTOCOL_VERSION
        client = Client(
            conn, role, name, address, v11=v11, instance=asked.instance,
            asked_id=same.asked_id if same else asked.client_id or identity or "", since=now,
        )  # fmt: skip
        client.link_telemetry = asked.link_telemetry and v11 and role is Role.BE
        for old in replaced:
            self._leave_place(now, old, client, trace_id)
        board.roster.add(client)
        for old in replaced:
            self._pass_leases(old, client)
        board.emit(fx.Registered(conn, role, name, v11))
        auth = Auth(
            status="ok", client_id=name, server=board.rules.server, protocol=PROTOCOL_VERSION
        )
        board.send(client, auth, trace_id)
        if role is Role.FE:
            board.send(client, board.rules.ports, trace_id)
        board.send(client, board.ports.state(v11=v11), trace_id)
        if role is Role.FE:
            for be in board.roster.public_keys():
                board.send(client, _key_of(be), trace_id)
        if same is not None and same.telemetry:
            self.subscribe(client)
        board.note(
            "info", "registered", f"{role} {name} registered from {address}",
            role=str(role), client_id=name, address=address, trace_id=trace_id,
        )  # fmt: skip

    def _pass_leases(self, old: Client, heir: Client) -> None:
        """Leases, and sessions under leases that have ended, go to another client."""
        for lease in self._board.leases.of(old):
            lease.owner = heir
        for link in self._board.links.values():
            if link.lease is not None and link.lease.owner is old:
                link.lease.owner = heir

    def _leave_place(self, now: float, old: Client, client: Client, trace_id: str) -> None:
        board = self._board
        again = old.instance == client.instance
        client.takeovers.extend(old.takeovers)
        if not again:
            text = f"{client.role} {client.client_id} registered again from {client.address}"
            for link in board.waiting():
                if board.roster.owner(link) is old:
                    board.close(link)
            board.send(old, Error(error_code=Code.TAKEN_OVER, error=text))
            board.note(
                "info", "taken_over", text,
                role=str(client.role), client_id=client.client_id, address=client.address,
                trace_id=trace_id,
            )  # fmt: skip
            client.takeovers.append(now)
            if len(client.takeovers) > TAKEOVERS_TOLD and now - client.takeovers[0] <= 60:
                board.note(
                    "warn", "takeovers",
                    f"{client.role} {client.client_id} was taken over more than {TAKEOVERS_TOLD} "
                    "times within a minute; do two processes use the same client_id?",
                    role=str(client.role), client_id=client.client_id, address=client.address,
                    trace_id=trace_id,
                )  # fmt: skip
        if client.public_key is None:
            client.public_key = old.public_key
        if not old.lost:
            board.emit(fx.CloseControl(old.conn))
            board.roster.lose(old, now)
        if old.role is Role.BE:
            board.roster.forget(old)

    def subscribe(self, client: Client) -> None:
        """Send telemetry to a client from now on."""
        client.telemetry = True
        self._board.emit(fx.Subscribe(client.conn))

    def exchange_key(self, client: Client, told: KeyExchange, trace_id: str) -> None:
        """Pass a BE's public key on to every FE; a private key goes nowhere."""
        board = self._board
        if told.private_key:
            board.private_keys_dropped += 1
            board.note(
                "warn", "private_key",
                f"BE {client.client_id} sent a private key; it was dropped and must be replaced",
                role=str(client.role), client_id=client.client_id, address=client.address,
                trace_id=trace_id,
            )  # fmt: skip
        client.public_key = told.public_key
        board.broadcast(Role.FE, _key_of(client), trace_id)

    def lost(self, now: float, conn: int) -> None:
        """A registered client's control connection ended."""
        board = self._board
        client = board.roster.get(conn)
        if client is None:
            return
        board.roster.lose(client, now)
        board.note(
            "info", "lost", f"control connection of {client.role} {client.client_id} ended",
            role=str(client.role), client_id=client.client_id, address=client.address,
        )  # fmt: skip
        board.at(now + board.roster.grace, board.roster.drop_stale_addresses)
        if client.role is Role.FE:
            self._leasing.end_all(client)
        elif board.rules.reaper_timeout > 0:
            board.at(now + board.rules.reaper_timeout, lambda _now: self._reap(client))
        else:
            self._reap(client)

    def _reap(self, client: Client) -> None:
        """Close what a lost BE left, except what another one has taken over by now."""
        board = self._board
        if not board.roster.is_lost(client):
            return
        links = [
            link
            for link in board.links.values()
            if link.role is Role.BE and board.roster.owner(link) is client
        ]
        last_waited = [
            port
            for port in board.ports
            if port.last_be is not None and board.roster.owner(port.last_be) is client
        ]
        heir = board.roster.named(Role.BE, client.client_id, lost=False)
        board.roster.forget(client)
        for lease in board.leases.of(client):
            if heir is not None:
                lease.owner = heir
            else:
                self._leasing.end(lease, lease.ports, Code.BE_LOST, by_gateway=True)
        for port in last_waited:
            if port.lease is not None:
                self._leasing.end(port.lease, [port], Code.BE_LOST, by_gateway=True)
        for link in links:
            sessions = [one for one in link.port.sessions.values() if one.be is link]
            for session in sessions:
                board.end_session(session, Cause.BE_LOST)
            if not sessions:
                board.close(link)
        board.note(
            "info", "reaped",
            f"BE {client.client_id} did not come back; {len(links)} of its connections are closed",
            client_id=client.client_id, address=client.address,
        )  # fmt: skip


def _check_identity(asked: Register, identity: str | None) -> None:
    """A certificate names the one client that may use it (``control.client_ca``)."""
    if identity is None:
        return
    if not identity:
        text = "the subject of the client's certificate has not exactly one common name"
        raise PeerError(Code.AUTH_FAILED, text)
    if fault := client_id_fault("the common name of the client's certificate", identity):
        raise PeerError(Code.AUTH_FAILED, fault)
    if asked.client_id not in ("", identity):
        text = (
            f"client_id is {shown(asked.client_id)}; allowed with this certificate: "
            f"{shown(identity)}, its common name, or none"
        )
        raise PeerError(Code.AUTH_FAILED, text)


def _same(replaced: list[Client], asked: Register) -> Client | None:
    """The client that comes back by its instance, if it does."""
    return next((old for old in replaced if old.instance == asked.instance), None)


def _key_of(client: Client) -> KeyExchange:
    return KeyExchange(public_key=client.public_key or "", client_id=client.client_id)
