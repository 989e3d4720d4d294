"""An asynchronous client of a relayx gateway, for both roles (contract section 1, library).

A BE waits for sessions with :class:`Backend`, an FE asks for them with :class:`Frontend`;
:class:`ControlClient` is the control plane alone. All calls return Deferreds, which
``async def`` code can await. The reactor is always a parameter.
"""

from relayx.client.backend import Backend
from relayx.client.backoff import Backoff
from relayx.client.control import ControlClient
from relayx.client.data import DataConnection, open_data
from relayx.client.errors import (
    ClientError,
    ControlLost,
    DataLost,
    Distrusted,
    Refused,
    Stopped,
    StreamEnded,
    StreamReset,
    TimedOut,
    TlsFailed,
)
from relayx.client.events import Connected, Disconnected, Ended, Events, LogLine, Unreachable
from relayx.client.frontend import Frontend
from relayx.client.gateway import Gateway, tcp_endpoints
from relayx.client.join import Joined, join
from relayx.client.session import LeasedSession, Session
from relayx.client.stream import Stream
from relayx.client.streamfactory import StreamFactory, connect_stream
from relayx.client.tls import ClientTls
from relayx.security.trust import Trust

__all__ = [
    "Backend",
    "Backoff",
    "ClientError",
    "ClientTls",
    "Connected",
    "ControlClient",
    "ControlLost",
    "DataConnection",
    "DataLost",
    "Disconnected",
    "Distrusted",
    "Ended",
    "Events",
    "Frontend",
    "Gateway",
    "Joined",
    "LeasedSession",
    "LogLine",
    "Refused",
    "Session",
    "Stopped",
    "Stream",
    "StreamEnded",
    "StreamFactory",
    "StreamReset",
    "TimedOut",
    "TlsFailed",
    "Trust",
    "Unreachable",
    "connect_stream",
    "join",
    "open_data",
    "tcp_endpoints",
]
