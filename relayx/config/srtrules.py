"""The rules for section ``srt`` that the type and range of one key do not tell."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relayx.config.faults import Fault, shown
from relayx.config.srt import (
    DATA_HEADER,
    FEC_EXTRA,
    FILTER_MOST,
    LEAST_PACKETS,
    LONGEST_LEASE_MS,
    PAYLOAD_MOST,
    RENDEZVOUS_FACTOR,
    STREAM_ID_MOST,
    UDP_HEADER,
    DialMode,
    DialRole,
    Enabled,
    Srt,
)

_INTEGER = re.compile(r"-?[0-9]{1,9}")
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


def payload_room(srt: Srt) -> int:
    """The most bytes of a message that a packet takes."""
    extra = FEC_EXTRA if srt.packetfilter else 0
    return min(PAYLOAD_MOST, srt.mss - DATA_HEADER) - extra


def _payload_faults(file: str, srt: Srt) -> Iterator[Fault]:
    most = payload_room(srt)
    if srt.payloadsize > most:
        behind = f" and the {FEC_EXTRA} bytes of srt.packetfilter" if srt.packetfilter else ""
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
