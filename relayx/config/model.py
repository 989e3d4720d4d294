"""Every configuration key with its type, default, range and meaning (contract section 1).

This is the one place for each of these facts: the loader checks against it, and the texts of
the files in ``configs/`` and of ``relayx init`` are made from it. Durations are seconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from relayx.config.keys import COUNT_MOST, KIB, MIB, RATE, Section, count, duration, port, text
from relayx.config.srt import Srt
from relayx.config.zmq import Zmq
from relayx.security.policy import OnExpired, Signing


class Admission(StrEnum):
    """Who may use a data port (contract section 6)."""

    OPEN = "open"
    PEER = "peer"
    TICKET = "ticket"


class OnFeClose(StrEnum):
    """What an FE's end means for a BE that did not say so in HELLO (contract section 7)."""

    KEEP = "keep"
    CLOSE = "close"


class Splice(StrEnum):
    """How the bytes of a session are moved."""

    AUTO = "auto"
    OFF = "off"


class Level(StrEnum):
    """The least severe line that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


class LogStream(StrEnum):
    """Who gets `log` messages over the control plane (contract section 3)."""

    OFF = "off"
    BE = "be"
    ALL = "all"


class Watch(StrEnum):
    """Whether the files are watched for changes."""

    OFF = "off"
    ON = "on"


class ClientRole(StrEnum):
    """The roles that a client may register in."""

    FE = "FE"
    BE = "BE"


class PortProtocol(StrEnum):
    """The protocols of data ports."""

    ZMQ = "zmq"
    SRT = "srt"


class Relay(Section, frozen=True):
    """Section ``relay``: how many clients, which ports. `ring_buffer_size` is in bytes."""

    max_fe: Annotated[int, count("registered FEs at once")] = 50
    max_be: Annotated[int, count("registered BEs at once")] = 50
    ring_buffer_size: Annotated[
        int,
        Meta(
            ge=MIB,
            le=2**40,
            description="most bytes the gateway itself holds per direction of a session",
        ),
    ] = 32 * MIB
    reaper_timeout: Annotated[
        float, duration("how long a lost BE may take to come back; at least 1s in prod")
    ] = 10.0
    control_port: Annotated[int, port("where clients register, unless control.endpoints says")] = (
        5555
    )
    srt_start_port: Annotated[int, port("first srt port; no key, no port")] | None = None
    srt_end_port: Annotated[int, port("last srt port")] | None = None
    zmq_start_port: Annotated[int, port("first zmq port; no key, no port")] | None = None
    zmq_end_port: Annotated[int, port("last zmq port")] | None = None

    def ports(self, protocol: str) -> range:
        """The ports of ``"srt"`` or ``"zmq"``, none where its two keys are absent."""
        first, last = {
            "srt": (self.srt_start_port, self.srt_end_port),
            "zmq": (self.zmq_start_port, self.zmq_end_port),
        }[protocol]
        return range(0) if first is None or last is None else range(first, last + 1)


class Control(Section, frozen=True):
    """Section ``control``: the connections over which clients register and ask."""

    endpoints: Annotated[
        tuple[str, ...], text("Twisted strports to listen on; empty: tcp:<relay.control_port>")
    ] = ()
    register_timeout: Annotated[float, duration("how long a client may take to register")] = 5.0
    idle_timeout: Annotated[
        float, duration("a client silent for this long is dropped; 0s: never")
    ] = 0.0
    max_message_bytes: Annotated[
        int, Meta(ge=KIB, le=64 * MIB, description="longest message that a client may send")
    ] = 64 * KIB
    max_outbox_bytes: Annotated[
        int,
        Meta(
            ge=4 * KIB,
            le=2**30,
            description="a client that reads too slowly to stay under this is dropped",
        ),
    ] = MIB
    max_unregistered: Annotated[
        int, count("connections that have not registered yet; past it the oldest is closed")
    ] = 256
    client_ca: Annotated[
        str,
        text(
            "PEM file of the CAs that sign clients' certificates; TLS endpoints then ask every "
            'client for one, whose common name is its client_id; "": none is asked for'
        ),
    ] = ""


class DataTls(Section, frozen=True):
    """Section ``data.tls``: TLS on the data ports, off without its two files."""

    certificate: Annotated[str, text('PEM file of the certificate and its chain; "": no TLS')] = ""
    private_key: Annotated[str, text("PEM file of its private key, mode 0600")] = ""
    required: Annotated[bool, text("refuse connections without TLS")] = False


class Data(Section, frozen=True):
    """Section ``data``: the ports that carry sessions (contract sections 6 and 7)."""

    interface: Annotated[
        str, text('address to listen on; "": every IPv4 address, "::": dual stack')
    ] = ""
    advertise_host: Annotated[str, text('host that a grant carries; "": none')] = ""
    hello_timeout: Annotated[float, duration("how long a data connection may take for HELLO")] = 2.0
    max_waiting_hello: Annotated[
        int, count("data connections that have not said HELLO; past it the oldest is closed")
    ] = 1024
    admission: Annotated[Admission, text("who may use a data port")] = Admission.PEER
    be_on_fe_close: Annotated[
        OnFeClose, text("what becomes of a BE's connection when its FE ends")
    ] = OnFeClose.KEEP
    drain_quiet: Annotated[
        float, duration("a kept BE silent for this long has no more to say to a gone FE")
    ] = 0.2
    drain_limit: Annotated[
        float, duration("a kept BE still sending to a gone FE after this is closed")
    ] = 30.0
    session_idle_timeout: Annotated[
        float, duration("a session without progress for this long is ended; 0s: never")
    ] = 0.0
    half_close_timeout: Annotated[
        float, duration("the same for a session with one direction ended; 0s: never")
    ] = 600.0
    keepalive: Annotated[
        # The kernel counts it in whole seconds and takes at most 32767 of them.
        float, duration("TCP keepalive of control and data connections", least=1, most=32767)
    ] = 15.0
    splice: Annotated[
        Splice,
        text("auto: without copying where the system can; off: always by the buffered path"),
    ] = Splice.AUTO
    drain_timeout: Annotated[
        float, duration("how long running sessions get when the gateway stops")
    ] = 5.0
    tls: DataTls = DataTls()


class Http(Section, frozen=True):
    """Section ``http``: the operator's pages."""

    endpoint: Annotated[str, text('a Twisted strports; "": off')] = "tcp:8080:interface=127.0.0.1"
    hosts: Annotated[
        tuple[str, ...],
        text("names by which it is reached, besides localhost and addresses; others are refused"),
    ] = ()
    heap: Annotated[
        bool, text("trace where memory is allocated, for /debug/heap; costs speed and memory")
    ] = False


class Log(Section, frozen=True):
    """Section ``log``."""

    level: Annotated[Level, text("the least severe line that is logged")] = Level.INFO
    format: Annotated[LogFormat, text("how a line is written")] = LogFormat.TEXT
    stream: Annotated[LogStream, text("who gets `log` messages")] = LogStream.OFF


class Reload(Section, frozen=True):
    """Section ``reload``: taking the files anew while the gateway runs."""

    watch: Annotated[
        Watch,
        text("on: whenever they change, also those they name; off: on SIGHUP and on request only"),
    ] = Watch.OFF


class Security(Section, frozen=True):
    """Section ``security``: signed control messages (guide section 4.5) and the keys for them."""

    signing: Annotated[
        Signing, text("signatures of control messages; accept: those that are there are verified")
    ] = Signing.OFF
    keys: Annotated[
        str, text('directory of the gateway\'s own keys, see relayx keys; "": it signs nothing')
    ] = ""
    trusted_keys: Annotated[
        str, text('directory of the clients\' public keys, <kid>.pub each; "": none')
    ] = ""
    on_expired: Annotated[
        OnExpired, text("an expired key; reject: it neither signs nor verifies any more")
    ] = OnExpired.WARN


class ProxyProtocol(Section, frozen=True):
    """Section ``proxy_protocol``: who stands in front of the gateway."""

    trusted: Annotated[
        tuple[str, ...],
        text(
            "addresses and networks of load balancers; their connections begin with a PROXY "
            "protocol header, v1 or v2, which tells the client's address"
        ),
    ] = ()


class Limits(Section, frozen=True):
    """Section ``limits``: what one client or one source may take. An IPv6 source is a /64."""

    control_per_source: Annotated[int, count("control connections of one source at once")] = 4096
    unregistered_per_source: Annotated[
        int,
        count("those of them that have not registered yet; past it the source's oldest is closed"),
    ] = 128
    failures_per_minute: Annotated[
        int, count("failed registrations of one source, which is then refused for failure_block")
    ] = 30
    failure_block: Annotated[
        float, duration("how long a source is refused that failed too often", least=1)
    ] = 60.0
    waiting_hello_per_source: Annotated[
        int, count("data connections of one source that have not said HELLO")
    ] = 512
    messages_per_second: Annotated[
        int, count("control messages of one client, up to twice as many in one second")
    ] = 1000
    leases_per_client: Annotated[int, count("leases of one client at once")] = 1024


class Audit(Section, frozen=True):
    """Section ``audit``: the record of who did what."""

    file: Annotated[str, text('where it is written, one JSON object a line; "": nowhere')] = ""


class ClientPolicy(Section, frozen=True):
    """An entry of ``clients``: what holds for the clients whose ids match a pattern.

    The first entry that matches a client's id holds for it alone.
    """

    match: Annotated[str, text("pattern of client_id, with * and ?")]
    secret_hash: Annotated[
        str, text('the clients\' own secret, as relayx secret hash prints it; "": auth_secret')
    ] = ""
    roles: Annotated[tuple[ClientRole, ...], text("roles that they may register in")] = (
        ClientRole.FE,
        ClientRole.BE,
    )
    protocols: Annotated[tuple[PortProtocol, ...], text("ports that they may use")] = (
        PortProtocol.ZMQ,
        PortProtocol.SRT,
    )
    max_leases: Annotated[int, count("leases of each at once")] = COUNT_MOST
    bandwidth: Annotated[
        int,
        Meta(
            ge=0,
            le=10**12,
            description="bits/s of each over all its sessions, both directions; 0: no limit",
            extra={"kind": RATE},
        ),
    ] = 0


class Config(msgspec.Struct, frozen=True):
    """The whole of a configuration file."""

    relay: Relay = Relay()
    control: Control = Control()
    data: Data = Data()
    srt: Srt = Srt()
    zmq: Zmq = Zmq()
    security: Security = Security()
    proxy_protocol: ProxyProtocol = ProxyProtocol()
    limits: Limits = Limits()
    http: Http = Http()
    log: Log = Log()
    reload: Reload = Reload()
    audit: Audit = Audit()
    clients: tuple[ClientPolicy, ...] = ()


class Secrets(msgspec.Struct, frozen=True):
    """The secret file. Nothing that prints one shows a secret; "" is none.

    :ivar relay_public_key: the gateway's public key, PEM.
    :ivar auth_secret: what clients register with.
    :ivar auth_secret_previous: also accepted while the secret is rotated.
    :ivar admin_token: what operators show on ``http.endpoint``.
    :ivar srt_passphrase: what SRT connections are encrypted with, 10 to 79 bytes.
    """

    auth_secret: str
    auth_secret_previous: str = ""
    relay_public_key: str = ""
    admin_token: str = ""
    srt_passphrase: str = ""

    def __repr__(self) -> str:
        return f"Secrets(<hidden>, relay_public_key={'<set>' if self.relay_public_key else ''!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec gives its own, which rich prefers to __repr__ and which shows every field.
        return [("relay_public_key", "<set>" if self.relay_public_key else "")]
