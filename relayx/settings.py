"""What each part of the gateway goes by, made of the configuration (contract section 1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from OpenSSL.SSL import Context

from relayx import __version__
from relayx.config.model import Admission, ClientPolicy, Config, DataTls, Secrets
from relayx.config.srt import DialMode
from relayx.config.srtrules import payload_room
from relayx.config.zmq import BrokerSecurity, ZmqBroker
from relayx.control.protocol import Settings as ControlSettings
from relayx.core import messages
from relayx.core.board import Rules
from relayx.core.brokered import BrokerPorts
from relayx.core.messages import PortAlloc, Protocol, Role
from relayx.core.policy import Policies, Policy
from relayx.data.session import Limits
from relayx.data.settings import Settings as DataSettings
from relayx.net.tls import ServerFiles, load_context
from relayx.security.curve import CurvePair, read_pair, read_publics
from relayx.srt.settings import Dial, SrtSettings, Value
from relayx.zmq.settings import BrokerSettings, Pattern, Security


def rules(config: Config) -> Rules:
    """What the core decides by."""
    relay, data = config.relay, config.data
    zmq, srt = relay.ports("zmq"), relay.ports("srt")
    return Rules(
        ports=PortAlloc(
            zmq_start_port=zmq.start if zmq else 0,
            zmq_end_port=zmq.stop - 1 if zmq else 0,
            srt_start_port=srt.start if srt else 0,
            srt_end_port=srt.stop - 1 if srt else 0,
        ),
        max_fe=relay.max_fe,
        max_be=relay.max_be,
        reaper_timeout=relay.reaper_timeout,
        hello_timeout=data.hello_timeout,
        admission=str(data.admission),
        keep=data.be_on_fe_close == "keep",
        advertise_host=data.advertise_host,
        server=f"relayx/{__version__}",
        leases_per_client=config.limits.leases_per_client,
        srt_bridge=config.srt.bridge,
        srt_fan_out=config.srt.fan_out,
        brokers=tuple(
            BrokerPorts(messages.Pattern(entry.pattern), entry.frontend, entry.backend)
            for entry in config.zmq.brokers
        ),
    )


def policies(entries: Iterable[ClientPolicy]) -> Policies:
    """What clients may do by their ids."""
    return Policies(
        Policy(
            match=entry.match,
            roles=tuple(Role(role) for role in entry.roles),
            protocols=tuple(Protocol(protocol) for protocol in entry.protocols),
            max_leases=entry.max_leases,
            bandwidth=entry.bandwidth,
            own_secret=bool(entry.secret_hash),
        )
        for entry in entries
    )


def control_settings(config: Config) -> ControlSettings:
    """What the control plane goes by."""
    told = config.control
    return ControlSettings(
        register_timeout=told.register_timeout,
        idle_timeout=told.idle_timeout,
        max_message_bytes=told.max_message_bytes,
        max_outbox_bytes=told.max_outbox_bytes,
        max_unregistered=told.max_unregistered,
        keepalive=config.data.keepalive,
        per_source=config.limits.control_per_source,
        unregistered_per_source=config.limits.unregistered_per_source,
        messages_per_second=config.limits.messages_per_second,
    )


def data_settings(config: Config) -> DataSettings:
    """What the data plane goes by."""
    told = config.data
    return DataSettings(
        interface=told.interface,
        hello_timeout=told.hello_timeout,
        max_waiting_hello=told.max_waiting_hello,
        waiting_hello_per_source=config.limits.waiting_hello_per_source,
        keepalive=told.keepalive,
        ring_buffer_size=config.relay.ring_buffer_size,
        splice=told.splice != "off",
        tls_required=told.tls.required,
        trusted=config.proxy_protocol.trusted,
        limits=Limits(
            drain_quiet=told.drain_quiet,
            drain_limit=told.drain_limit,
            idle_timeout=told.session_idle_timeout,
            half_close_timeout=told.half_close_timeout,
        ),
        inspect=config.zmq.inspect.value,
        max_message_bytes=config.zmq.max_message_bytes,
        zmtp_credentials=told.admission == Admission.TICKET,
    )


def srt_settings(config: Config, secrets: Secrets) -> SrtSettings:
    """What SRT goes by."""
    told = config.srt
    return SrtSettings(
        enabled=told.enabled.value,
        bridge=told.bridge,
        fan_out=told.fan_out,
        interface=config.data.interface,
        hello_timeout=config.data.hello_timeout,
        idle_timeout=config.data.session_idle_timeout,
        payloadsize=told.payloadsize or payload_room(told),
        options=tuple(_srt_options(config)),
        passphrase=secrets.srt_passphrase,
        dial=tuple(
            Dial(
                port=entry.port,
                host=entry.host,
                peer_port=entry.peer_port,
                role=Role(entry.role),
                streamid=entry.streamid,
                rendezvous=entry.mode is DialMode.RENDEZVOUS,
            )
            for entry in told.dial
        ),
    )


def zmq_settings(config: Config) -> tuple[BrokerSettings, ...]:
    """What the brokers are to be.

    :raises KeyFileError: where a key of CURVE cannot be read.
    """
    return tuple(_broker(config, entry) for entry in config.zmq.brokers)


def _broker(config: Config, entry: ZmqBroker) -> BrokerSettings:
    interface = config.data.interface
    pair, clients = CurvePair("", ""), None
    if entry.security is BrokerSecurity.CURVE:
        pair = read_pair(config.security.keys, entry.curve_key)
        clients = read_publics(entry.curve_clients) if entry.curve_clients else None
    return BrokerSettings(
        pattern=Pattern(entry.pattern),
        frontend=entry.frontend,
        backend=entry.backend,
        interface=interface,
        sndhwm=entry.sndhwm,
        rcvhwm=entry.rcvhwm,
        linger=entry.linger,
        reconnect_ivl=entry.reconnect_ivl,
        reconnect_ivl_max=entry.reconnect_ivl_max,
        max_msg_size=entry.max_msg_size,
        immediate=entry.immediate,
        heartbeat_ivl=entry.heartbeat_ivl,
        backlog=entry.backlog,
        max_connections=entry.max_connections,
        ipv6=entry.ipv6 or ":" in interface,
        security=Security(entry.security),
        curve_server_secret=pair.secret,
        curve_server_public=pair.public,
        curve_clients=clients,
    )


def _srt_options(config: Config) -> Iterator[tuple[str, Value]]:
    """libsrt counts buffers in packets of `mss`, and `rcvbuf` by `fc`: these have to be first."""
    told = config.srt
    yield from (("mss", told.mss), ("fc", told.fc))
    yield from (("rcvbuf", told.rcvbuf), ("sndbuf", told.sndbuf))
    # libsrt's own "latency" sets these two to the same.
    yield "rcvlatency", told.latency
    yield "peerlatency", told.peerlatency or told.latency
    yield from (("maxbw", told.maxbw), ("inputbw", told.inputbw), ("oheadbw", told.oheadbw))
    yield from (("snddropdelay", told.snddropdelay), ("tlpktdrop", told.tlpktdrop))
    yield from (("lossmaxttl", told.lossmaxttl), ("conntimeo", told.conntimeo))
    if told.pbkeylen:  # a libsrt without encryption takes none, not even 0
        yield "pbkeylen", told.pbkeylen
    if told.packetfilter:  # libsrt refuses an empty one
        yield "packetfilter", told.packetfilter
    # Messages of SRT peers go on as they are, so every size that fits; never 0, with which a
    # caller's own packet filter has libsrt 1.5.1 write behind a packet's end.
    yield "payloadsize", payload_room(told)


def load_data_tls(told: DataTls) -> Context | None:
    """TLS for the data ports, None where it is not configured.

    :raises TlsFileError: where a file cannot be used.
    """
    if not told.certificate:
        return None
    return load_context(ServerFiles(certificate=told.certificate, private_key=told.private_key))
