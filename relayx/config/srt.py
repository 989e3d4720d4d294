"""Section ``srt``, and what it may say besides the range of each key.

Keys that are options of libsrt have its names and units, and its limits (``API-socket-options.md``
and ``socketconfig.cpp`` of https://github.com/Haivision/srt). Where libsrt would quietly take
another value than it was given, the value is refused instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal

from relayx.config import keys
from relayx.config.faults import Fault, shown
from relayx.config.keys import INT64_MOST, Section

UDP_HEADER = 28
"""Bytes of the IPv4 and UDP headers, which `mss` counts."""

DATA_HEADER = UDP_HEADER + 16
"""Bytes of all headers in front of a message."""

PAYLOAD_MOST = 1500 - DATA_HEADER
FEC_EXTRA = 4
"""Bytes that the filter ``fec`` takes of each packet."""

LEAST_PACKETS = 32
"""What libsrt's buffers and its flow window hold at least."""

LONGEST_LEASE_MS = 600_000
"""The longest time that a lease may hold (contract section 3.4)."""

RENDEZVOUS_FACTOR = 10
"""libsrt waits for a rendezvous that many times ``conntimeo``."""

LATENCY_MOST = 65535
"""The handshake has 16 bits for it, and libsrt cuts off the rest."""

STREAM_ID_MOST = 512
FILTER_MOST = 64
"""Bytes; libsrt's documentation says 512, its code keeps no longer one."""

_BUFFER = 8192 * (1500 - UDP_HEADER)
_INTEGER = re.compile(r"-?[0-9]{1,9}")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%[^\]\s]+)?\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})")


class Enabled(StrEnum):
    """Whether there is real SRT on the srt ports."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


class DialRole(StrEnum):
    """What the peer is that the gateway dials."""

    FE = "FE"
    BE = "BE"


class DialMode(StrEnum):
    """How a connection that the gateway makes comes about."""

    CALLER = "caller"
    RENDEZVOUS = "rendezvous"


class SrtDial(Section, frozen=True):
    """An entry of ``srt.dial``: a fixed source or sink, which the gateway calls for a port."""

    port: Annotated[int, keys.port("the srt port that the peer is on")]
    address: Annotated[str, keys.text("host:port of the peer, an IPv6 address in brackets")]
    role: Annotated[DialRole, keys.text("what the peer is")]
    streamid: Annotated[str, keys.credential('what the peer is told; "": nothing')] = ""
    mode: Annotated[DialMode, keys.text("rendezvous: both sides call")] = DialMode.CALLER

    def __repr__(self) -> str:
        told = "<hidden>" if self.streamid else ""
        return (
            f"SrtDial(port={self.port}, address={self.address!r}, role={self.role!s},"
            f" streamid={told!r}, mode={self.mode!s})"
        )

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec gives its own, which rich prefers to __repr__ and which shows every field.
        told = "<hidden>" if self.streamid else ""
        shown_as_is = ("port", "address", "role", "mode")
        return [("streamid", told), *((name, getattr(self, name)) for name in shown_as_is)]

    @property
    def host(self) -> str:
        """The host of the address, without brackets; "" where the address is none."""
        return _split(self.address)[0]

    @property
    def peer_port(self) -> int:
        """The port of the address; 0 where the address is none."""
        return _split(self.address)[1]


class Srt(Section, frozen=True):
    """Section ``srt``: real SRT on the srt ports; options have libsrt's names and units."""

    enabled: Annotated[
        Enabled, keys.text("auto: where libsrt is installed; yes: without it there is no start")
    ] = Enabled.AUTO
    bridge: Annotated[bool, keys.text("let TCP and SRT meet on a port")] = False
    fan_out: Annotated[
        int, keys.number("FEs at once that may watch one BE which publishes", 1, 1000)
    ] = 1
    latency: Annotated[
        int,
        keys.number("ms for which packets are held, so that lost ones can be sent again, each way"
                    ", where the peer asks for no more", 0, LATENCY_MOST),
    ] = 120  # fmt: skip
    peerlatency: Annotated[
        int,
        keys.number(
            "ms, the same for what the gateway sends alone; 0: as latency", 0, LATENCY_MOST
        ),
    ] = 0
    maxbw: Annotated[
        int,
        keys.number("bytes/s to send at most; -1: no limit; 0: by inputbw", -1, INT64_MOST),
    ] = -1
    inputbw: Annotated[
        int,
        keys.number("bytes/s that come in, with maxbw 0; 0: as measured", most=INT64_MOST),
    ] = 0
    oheadbw: Annotated[
        int, keys.number("percent above inputbw for what is sent again, with maxbw 0", 5, 100)
    ] = 25
    pbkeylen: Annotated[
        Literal[0, 16, 24, 32],
        keys.text("bytes of the encryption key, with srt_passphrase; 0: as the caller says, or 16"),
    ] = 0
    rcvbuf: Annotated[
        int, keys.number("bytes of the receive buffer, at most fc x (mss - 28)", 1)
    ] = _BUFFER
    sndbuf: Annotated[int, keys.number("bytes of the send buffer", 1)] = _BUFFER
    mss: Annotated[
        int, keys.number("bytes of a packet, with the headers of IP and UDP", 76, 65536)
    ] = 1500
    fc: Annotated[int, keys.number("packets in flight at most", LEAST_PACKETS)] = 25600
    snddropdelay: Annotated[
        int, keys.number("ms more before the sender drops what is late; -1: it drops nothing", -1)
    ] = 0
    tlpktdrop: Annotated[bool, keys.text("drop what comes too late")] = True
    lossmaxttl: Annotated[
        int, keys.number("packets that may come out of order before one counts as lost")
    ] = 0
    conntimeo: Annotated[
        int,
        keys.number("ms for a connection that the gateway makes; rendezvous waits 10 times as long",
                    most=LONGEST_LEASE_MS),
    ] = 3000  # fmt: skip
    payloadsize: Annotated[
        int, keys.number("bytes of a message at most; 0: as many as mss lets", 0, PAYLOAD_MOST)
    ] = 1316
    packetfilter: Annotated[
        str,
        keys.text('forward error correction, such as fec,cols:10,rows:5,arq:onreq; "": none'),
    ] = ""
    dial: Annotated[
        tuple[SrtDial, ...],
        keys.text(
            "peers that the gateway calls: port, address (host:port), role (FE or BE) of each,"
            " and where wanted streamid and mode (caller or rendezvous)"
        ),
    ] = ()


_FILTER = "fec, then cols, rows, layout or arq, such as fec,cols:10,rows:5,layout:staircase"


def srt_faults(file: str, srt: Srt, ports: range, broken: frozenset[str]) -> Iterator[Fault]:
    """What is wrong with the section as a whole.

    :param ports: the srt ports.
    :param broken: the dotted keys that could not be read; nothing is said about those.
    """
    if not broken & {"srt.rcvbuf", "srt.sndbuf", "srt.fc", "srt.mss"}:
        yield from _buffer_faults(file, srt)
    filter_fine = "srt.packetfilter" not in broken
    if filter_fine and (problem := _filter_problem(srt.packetfilter)):
        filter_fine = False
        yield Fault(file, "srt.packetfilter", shown(srt.packetfilter), problem, _FILTER)
    if filter_fine and not broken & {"srt.payloadsize", "srt.mss"}:
        yield from _payload_faults(file, srt)
    matrix = _matrix(srt.packetfilter) if filter_fine else 0
    if matrix and not broken & {"srt.rcvbuf", "srt.fc", "srt.mss"}:
        held = min(srt.rcvbuf // (srt.mss - UDP_HEADER), srt.fc)
        if matrix > held:
            problem = (
                f"has {matrix} packets in its matrix, and srt.rcvbuf and srt.fc let {held} wait"
            )
            allowed = "cols x rows that wait in the receive buffer"
            yield Fault(file, "srt.packetfilter", shown(srt.packetfilter), problem, allowed)
    if "srt.dial" not in broken:
        known = not any(key.startswith("relay.srt_") for key in broken)
        yield from _dial_faults(file, srt, ports if known else None, broken)


def srt_warnings(file: str, srt: Srt, ports: range) -> Iterator[Fault]:
    """What is allowed and yet hardly meant.

    :param ports: the srt ports.
    """
    if srt.enabled is Enabled.YES and not ports:
        yield Fault(file, "srt.enabled", "yes", "and there are no srt ports")
    if srt.enabled is Enabled.NO and srt.dial:
        yield Fault(file, "srt.dial", "", "is not used: srt.enabled is no")
    if srt.inputbw and srt.maxbw:
        yield Fault(file, "srt.inputbw", str(srt.inputbw), "is not used: srt.maxbw is not 0")
    if srt.dial and not srt.conntimeo:
        yield Fault(file, "srt.conntimeo", "0", "gives the peers of srt.dial no time at all")
    for index, entry in enumerate(srt.dial):
        if entry.streamid and entry.mode is DialMode.RENDEZVOUS:
            problem = "may not reach the peer: in a rendezvous that of one side alone is taken"
            yield Fault(file, f"srt.dial[{index}].streamid", "", problem)


def passphrase_warnings(file: str, srt: Srt, passphrase: str) -> Iterator[Fault]:
    """What is unwise about a passphrase beside the section; it is not shown."""
    if srt.pbkeylen and not passphrase:
        problem = "is not used: there is no srt_passphrase in the secret file"
        yield Fault(file, "srt.pbkeylen", str(srt.pbkeylen), problem)


def _buffer_faults(file: str, srt: Srt) -> Iterator[Fault]:
    packet = srt.mss - UDP_HEADER
    least, most = LEAST_PACKETS * packet, srt.fc * packet
    if srt.rcvbuf > most:
        problem = f"is more than srt.fc = {srt.fc} packets of srt.mss = {srt.mss} take"
        yield Fault(file, "srt.rcvbuf", str(srt.rcvbuf), problem, f"{least} to {most}")
    for name, value in (("rcvbuf", srt.rcvbuf), ("sndbuf", srt.sndbuf)):
        if value < least:
            problem = f"is less than {LEAST_PACKETS} packets of srt.mss = {srt.mss}"
            yield Fault(file, f"srt.{name}", str(value), problem, f"{least} or more")


def _payload_faults(file: str, srt: Srt) -> Iterator[Fault]:
    extra = FEC_EXTRA if srt.packetfilter else 0
    most = min(PAYLOAD_MOST, srt.mss - DATA_HEADER) - extra
    if srt.payloadsize > most:
        behind = f" and the {FEC_EXTRA} bytes of srt.packetfilter" if extra else ""
        problem = f"is more than the headers{behind} leave of a packet of srt.mss = {srt.mss}"
        yield Fault(file, "srt.payloadsize", str(srt.payloadsize), problem, f"{most} or less")


def _filter_problem(text: str) -> str:
    """What is wrong with a packet filter, "" where nothing is."""
    if not text:
        return ""
    if len(text.encode()) > FILTER_MOST:
        return f"is longer than {FILTER_MOST} bytes"
    name, *parts = text.split(",")
    if name != "fec":
        return "is no filter that libsrt has"
    seen: set[str] = set()
    for part in parts:
        key, colon, value = part.partition(":")
        if key not in _FILTER_KEYS or not colon:
            return "has something else than cols:N, rows:N, layout:X or arq:X"
        if key in seen:
            return f"has {key} twice"
        seen.add(key)
        if problem := _FILTER_KEYS[key](value):
            return f"has {key} that {problem}"
    return ""


def _cols(value: str) -> str:
    return "" if _INTEGER.fullmatch(value) and int(value) >= 2 else "is not 2 or more"


def _rows(value: str) -> str:
    fine = _INTEGER.fullmatch(value) and (int(value) >= 1 or int(value) <= -2)
    return "" if fine else "is neither 1 or more nor -2 or less"


def _layout(value: str) -> str:
    return "" if value in ("even", "staircase") else "is neither even nor staircase"


def _arq(value: str) -> str:
    return "" if value in ("always", "onreq", "never") else "is none of always, onreq, never"


_FILTER_KEYS = {"cols": _cols, "rows": _rows, "layout": _layout, "arq": _arq}


def _matrix(text: str) -> int:
    """Packets in the matrix of a filter that is right, 0 where the peer says how many."""
    told = dict(part.split(":") for part in text.split(",")[1:])
    return int(told.get("cols", 0)) * abs(int(told.get("rows", 1)))


def _split(address: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(address)
    if found is None or not 1 <= int(found[2]) <= 65535:
        return "", 0
    return found[1].strip("[]"), int(found[2])


def _dial_faults(
    file: str, srt: Srt, ports: range | None, broken: frozenset[str]
) -> Iterator[Fault]:
    seen: dict[tuple[int, DialRole], int] = {}
    for index, entry in enumerate(srt.dial):
        name = f"srt.dial[{index}]"
        if ports is not None and entry.port not in ports:
            allowed = f"{ports[0]} to {ports[-1]}" if ports else "none: there are no srt ports"
            yield Fault(file, f"{name}.port", str(entry.port), "is no srt port", allowed)
        if not entry.host:
            allowed = "host:port, such as camera.example:9000 or [2001:db8::1]:9000"
            yield Fault(file, f"{name}.address", shown(entry.address), "is no address", allowed)
        place = entry.port, entry.role
        if place in seen:
            problem = f"has the {entry.role} of srt.dial[{seen[place]}] already"
            yield Fault(file, f"{name}.port", str(entry.port), problem, "one of each role a port")
        seen.setdefault(place, index)
        if len(entry.streamid.encode()) > STREAM_ID_MOST or not entry.streamid.isprintable():
            problem = "is too long or has characters that are not printable"
            allowed = f"{STREAM_ID_MOST} bytes or less"
            yield Fault(file, f"{name}.streamid", "", problem, allowed)
    longest = LONGEST_LEASE_MS // RENDEZVOUS_FACTOR
    meets = any(entry.mode is DialMode.RENDEZVOUS for entry in srt.dial)
    if meets and "srt.conntimeo" not in broken and srt.conntimeo > longest:
        problem = "waits longer for a rendezvous than any lease holds"
        yield Fault(file, "srt.conntimeo", str(srt.conntimeo), problem, f"{longest} or less")
