"""ZMTP 3.0 and 3.1 read without I/O, one direction at a time (ZeroMQ RFC 23, 24, 25 and 37).

It follows a stream that goes through, never alters or copies it, and knows nothing of sockets,
time or the rest of relayx but its base of errors::

    reader = Reader()
    for segment in segments:
        events = reader.feed(segment)      # Greeting, Ready, Message, ...

:class:`Reader` follows one direction, :class:`Handshake` joins the two of a connection,
:class:`Exchange` times requests and replies.

**Older peers.** ZMTP 2.0 and 1.0 (libzmq 3 and 2, JeroMQ before 0.5, NetMQ before 4.0.1) have no
mechanism, no READY and no ERROR, so that neither credentials nor a refusal can be told. libzmq 4
falls back for them: told of an older revision, it answers with its own socket type as byte 12 and
frames without a handshake. Such a stream is :class:`OldVersion`, raised at the eleventh byte and
therefore before libzmq has fallen back: refuse it by closing the connection, or, where nothing
has to be inspected, pass it through from there on; both readers are then of no more use.

**What libzmq does when refused** (4.3.5, tried). An ERROR command that comes after it has sent its
READY, HELLO or INITIATE, another mechanism, and a READY of a socket type that does not go with its
own: it closes and *never connects to that endpoint again*. A connection that is closed during the
handshake for any other reason, garbage included, and an ERROR in traffic or before its READY: it
connects again after ``reconnect_ivl``. So ERROR is for what will not mend by itself, and a BE that
waits is spared a wrong FE only where that FE's READY (with NULL) or mechanism is looked at before
it is passed on. As-server is always 0 from libzmq, whichever it is. With PLAIN it misspells ERROR,
as the first byte and name ``^RROR``, and knows no other: a true ERROR ends its tries there too,
as a command that it did not expect.
"""

from relayx.zmtp.commands import error_command
from relayx.zmtp.errors import Fault, OldVersion, ZmtpError
from relayx.zmtp.events import (
    Command,
    Credentials,
    Event,
    Failed,
    Greeting,
    Message,
    Ready,
)
from relayx.zmtp.exchange import Exchange
from relayx.zmtp.greeting import greeting_bytes
from relayx.zmtp.handshake import Handshake
from relayx.zmtp.reader import Reader
from relayx.zmtp.sockettypes import PATTERNS, compatible, incompatibility, pattern_of

__all__ = [
    "PATTERNS",
    "Command",
    "Credentials",
    "Event",
    "Exchange",
    "Failed",
    "Fault",
    "Greeting",
    "Handshake",
    "Message",
    "OldVersion",
    "Reader",
    "Ready",
    "ZmtpError",
    "compatible",
    "error_command",
    "greeting_bytes",
    "incompatibility",
    "pattern_of",
]
