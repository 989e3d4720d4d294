"""The gateway's rules as one object: an event and the time in, a list of effects out.

The whole protocol, each arrow with what it causes (contract sections 3 to 9)::

    control connection                          gateway
      register          ->  auth ok, [FE: port_alloc], port_state, [FE: key_exchange ...]
                            auth error, close
      port_state_q      ->  port_state
      port_acquire      ->  port_grant to it and to the other role | port_grant error to it
      port_release      ->  port_release to the other role | error
      BE port_alloc     ->  port_alloc to every FE; telemetry to this BE
      BE key_exchange   ->  key_exchange to every FE
      ping              ->  pong                                   (answered by the protocol)
      (ends)            ->  FE: port_release | BE: reaped after reaper_timeout

    data connection
      HELLO BE          ->  wait (port ready) | pair with a waiting FE | refuse
      HELLO FE          ->  pair (port busy)  | wait for a BE          | refuse
                            on a busy port: pair too, where FEs may share its BE's SRT stream
      (ends)            ->  BE: port empty
      session over      ->  session_end to both ends; with the last: port ready (kept BE) or empty

    broker
      connections       ->  port_state (1.1: its brokers)
      (ends by itself)  ->  port_release BE_LOST to the owners of leases on its ports

    time
      lease expired     ->  port_release TTL_EXPIRED, unless a session runs
      FE waited         ->  refuse PORT_EMPTY
      BE lost           ->  its connections, sessions and leases end with BE_LOST

Whatever changes the lists of ``port_state`` ends in one StateChanged.
"""

from __future__ import annotations

from collections.abc import Mapping

from relayx.core.board import Board, Names, Rules
from relayx.core.bystate import role_by_state
from relayx.core.directory import Client
from relayx.core.effects import Effect
from relayx.core.errors import Code, PeerError
from relayx.core.hello import Hello
from relayx.core.leasing import Leasing
from relayx.core.messages import (
    Cause,
    KeyExchange,
    Message,
    PortAcquire,
    PortAlloc,
    PortRelease,
    PortState,
    PortStateQuery,
    Register,
    Role,
    Side,
)
from relayx.core.pairing import Outcome, Pairing
from relayx.core.policy import Policies, Policy
from relayx.core.ports import BY_TCP, Way
from relayx.core.ranges import Ranges, Touched
from relayx.core.registration import Registration


class Switchboard:
    """Who is there, what each port does, and what follows from what happens.

    Every method but the plain queries is an event: it takes the time in seconds since the
    epoch and returns the effects to carry out, in order.
    """

    def __init__(self, rules: Rules, names: Names, policies: Policies | None = None) -> None:
        self.board = Board(rules, names, policies)
        self._leasing = Leasing(self.board)
        self._pairing = Pairing(self.board, self._leasing)
        self._registration = Registration(self.board, self._leasing)
        self._ranges = Ranges(self.board, self._leasing)

    # control connections

    def registered(
        self,
        now: float,
        conn: int,
        address: str,
        asked: Register,
        authentic: bool,
        trace_id: str = "",
        identity: str | None = None,
    ) -> list[Effect]:
        """A connection's first message is ``register``; `authentic`: its secret is right.

        :param identity: the common name in its certificate, None where it was asked for none.
        """
        self._registration.register(now, conn, address, asked, authentic, trace_id, identity)
        return self.board.take(trace_id)

    def rejected(
        self, conn: int, address: str, error: PeerError, trace_id: str = ""
    ) -> list[Effect]:
        """A connection did not register as it should: ``auth`` with the error, then close."""
        self._registration.reject(conn, address, error, trace_id or error.trace_id)
        return self.board.take()

    def requested(
        self, now: float, conn: int, message: Message, msg_id: str = "", trace_id: str = ""
    ) -> list[Effect]:
        """A registered client sent a message that is not ``ping``."""
        client = self.board.roster.get(conn)
        if client is None:  # taken over or closing; what it still says is void
            return []
        try:
            self._dispatch(now, client, message, msg_id, trace_id)
        except PeerError as error:
            self.board.reply_error(conn, error)
            self.board.note(
                "info", "message_refused",
                f"a message of {client.role} {client.client_id} is refused: {error}",
                role=str(client.role), client_id=client.client_id, address=client.address,
                error_code=str(error.code), trace_id=error.trace_id,
            )  # fmt: skip
        return self.board.take(trace_id)

    def _dispatch(
        self, now: float, client: Client, message: Message, msg_id: str, trace_id: str
    ) -> None:
        board = self.board
        if isinstance(message, PortStateQuery):
            neither = not (message.need_zmq or message.need_srt)
            state = board.ports.state(
                v11=client.v11, zmq=message.need_zmq or neither, srt=message.need_srt or neither
            )
            board.send(client, state, trace_id)
        elif isinstance(message, PortAcquire):
            self._leasing.acquire(now, client, message, trace_id)
        elif isinstance(message, PortRelease):
            self._leasing.release(client, message, msg_id, trace_id)
        elif isinstance(message, PortAlloc) and client.role is Role.BE:
            self._registration.subscribe(client)
            board.broadcast(Role.FE, board.rules.ports, trace_id)
        elif isinstance(message, KeyExchange) and client.role is Role.BE:
            self._registration.exchange_key(client, message, trace_id)
        else:
            text = (
                "this connection has registered already"
                if isinstance(message, Register)
                else f"{message.TYPE} is for a BE to send, not for an {client.role}"
            )
            raise PeerError(Code.INVALID_REQUEST, text, msg_id=msg_id, trace_id=trace_id)

    def lost(self, now: float, conn: int) -> list[Effect]:
        """A control connection has ended."""
        self._registration.lost(now, conn)
        return self.board.take()

    # data connections

    def hello(
        self,
        now: float,
        link: int,
        port: int,
        address: str,
        hello: Hello,
        way: Way = BY_TCP,
    ) -> list[Effect]:
        """A data connection has said HELLO on `port`, or an SRT one the same by its stream id."""
        self._pairing.hello(now, link, port, address, hello, way)
        return self.board.take()

    def zmtp(
        self,
        now: float,
        link: int,
        port: int,
        address: str,
        credentials: tuple[str, str] | None = None,
        kind: str = "",
    ) -> list[Effect]:
        """A data connection has come to `port` with a greeting of ZMTP, and without HELLO.

        Its role is that which the port waits for. In ``ticket`` admission credentials of PLAIN are
        an FE's, and count as its HELLO: its client_id, and the session_id or the ticket of its
        lease. One that waits as a BE, and shows such after all, is told of here once more: it
        leaves its place, which is not kept, and comes as an FE.

        :param credentials: user name and password, None where it has shown none.
        :param kind: of socket, "" where it is not known.
        """
        self._pairing.zmtp(now, link, port, address, credentials, kind)
        return self.board.take()

    def link_lost(self, now: float, link: int) -> list[Effect]:
        """A data connection that waits has ended."""
        self._pairing.link_lost(now, link)
        return self.board.take()

    def session_draining(self, pairing_id: str) -> list[Effect]:
        """The FE of a kept BE has ended its stream."""
        self._pairing.draining(pairing_id)
        return self.board.take()

    def session_over(self, now: float, pairing_id: str, outcome: Outcome) -> list[Effect]:
        """A session has ended; its port leaves ``busy`` with the last that runs there."""
        self._pairing.over(now, pairing_id, outcome)
        return self.board.take()

    # brokers

    def broker_clients(self, frontend: int, clients: Mapping[Side, int]) -> list[Effect]:
        """So many connections are open at the broker whose frontend port that is."""
        for broker in self.board.ports.brokers:
            if broker.ports.frontend == frontend and broker.clients != clients:
                broker.clients = dict(clients)
                self.board.changed()
        return self.board.take()

    def broker_ended(self, frontend: int) -> list[Effect]:
        """The broker whose frontend port that is runs no more; leases on its ports end."""
        for broker in self.board.ports.brokers:
            if broker.ports.frontend == frontend and broker.running:
                broker.running = False
                broker.clients = dict.fromkeys(Side, 0)
                self._leasing.end_brokered(broker)
                self.board.changed()
        return self.board.take()

    # time and stopping

    def tick(self, now: float) -> list[Effect]:
        """Do what is due by `now`."""
        self.board.run_due(now)
        return self.board.take()

    def next_due(self) -> float | None:
        """When the next :meth:`tick` has something to do."""
        return self.board.next_due()

    def drain(self) -> list[Effect]:
        """Take nobody new; close what waits (contract section 9)."""
        self.board.draining = True
        for link in self.board.waiting():
            if link.role is Role.FE:
                self.board.refuse(link, Code.DRAINING, "the gateway is stopping")
            else:
                self.board.close(link)
        return self.board.take()

    def end_sessions(self, cause: Cause) -> list[Effect]:
        """End every session that still runs."""
        for session in self.board.sessions.values():
            self.board.end_session(session, cause)
        return self.board.take()

    def end_session(self, pairing_id: str, cause: Cause) -> list[Effect]:
        """End one session, where it still runs."""
        session = self.board.sessions.get(pairing_id)
        if session is not None:
            self.board.end_session(session, cause)
        return self.board.take()

    def has_session(self, pairing_id: str) -> bool:
        """Whether a session of that id runs."""
        return pairing_id in self.board.sessions

    def replace_policies(self, policies: Policies) -> None:
        """Go by other policies from now on; what was granted under the old ones stays."""
        self.board.policies = policies

    def replace_rules(self, rules: Rules, trace_id: str = "") -> list[Effect]:
        """Go by other rules from now on; nobody is dropped but from ports that are gone.

        A BE that is lost already is reaped when it would have been.

        :raises StateError: where a session forbids it, see :meth:`touched_by`.
        """
        board = self.board
        if rules.ports != board.rules.ports:
            self._ranges.change(rules.ports, trace_id)
        board.rules = rules
        board.roster.reaper_timeout = rules.reaper_timeout
        return board.take(trace_id)

    # queries

    def touched_by(self, ranges: PortAlloc) -> Touched:
        """What it would do to whom, if the data ports were these."""
        return self._ranges.touched(ranges)

    def role_by_state(
        self, now: float, port: int, address: str, kind: str = "", *, shown: bool = False
    ) -> Role:
        """The role in which somebody comes to a port who does not say it."""
        found = self.board.ports.get(port)
        if found is None:
            return Role.FE
        return role_by_state(self.board, found, address, now, kind, shown=shown)

    def policy(self, asked: Register, identity: str | None = None) -> Policy:
        """What holds for a client that asks to register; `identity`: see :meth:`registered`."""
        return self._registration.policy(asked, identity)

    def client(self, conn: int) -> Client | None:
        """Who a control connection belongs to, None before it has registered."""
        return self.board.roster.get(conn)

    def clients(self, role: Role | None = None) -> list[Client]:
        """Every registered client, of one role or of both."""
        return [c for c in self.board.roster if role is None or c.role is role]

    def port_state(self, *, v11: bool) -> PortState:
        """What ``port_state`` says now."""
        return self.board.ports.state(v11=v11)

    def sessions_ended(self) -> dict[Cause, int]:
        """How many sessions have ended, by cause."""
        return dict(self.board.sessions_ended)

    def sessions_running(self) -> int:
        """How many sessions there are."""
        return len(self.board.sessions)
