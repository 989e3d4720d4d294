"""``python -m bench.zmq``: ZeroMQ through the gateway, and through what one would take instead.

Each row of the table is one kind of load; the relays take turns inside each round, and every
measurement has a fresh relay. Figures are medians of the rounds, and a ratio is the median of the
ratios inside each round. The exit status is 1 after a fault: a message that was lost, added, of
another size or out of order, or a count of the gateway's that is not exact.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bench import loader
from bench.machine import describe, load_average
from bench.options import choose
from bench.peers.zmq_relays import (
    BrokerGateway,
    NoRelay,
    Place,
    ZmqGateway,
    ZmqHaproxy,
    ZmqRelay,
    ZmqServer,
    compiler_and_libzmq,
)
from bench.processes import PeerError

RATE, P50 = "messages_per_s", "p50_us"
WITHIN = 5.0
"""Seconds after which the gateway's count has to be whole."""


@dataclass(frozen=True)
class Row:
    """One kind of load.

    :ivar size: bytes of a message.
    :ivar clients: on each side.
    :ivar hwm: messages that a socket of the load may queue.
    :ivar relays: by name; a row's first is what the others are compared with.
    :ivar key: which figure is to reach its bound.
    :ivar bound: of the ratio; at most where it is a time, at least otherwise.
    """

    name: str
    title: str
    pattern: str
    size: int
    relays: tuple[str, ...]
    bound: float
    key: str = RATE
    clients: int = 1
    hwm: int = 1000

    def reached(self, ratio: float) -> bool:
        """Whether a ratio is inside the bound."""
        return ratio <= self.bound if self.key == P50 else ratio >= self.bound

    @property
    def target(self) -> str:
        """The bound, as a table shows it."""
        return f"{'<=' if self.key == P50 else '>='} {self.bound:g} x {self.relays[0]}"


DIRECT = ("haproxy", "relayx", "none")
ROWS = (
    Row("ping", "REQ/REP 64 B, 1 and 1", "req_rep", 64, DIRECT, 1.35, P50),
    Row("small", "PUSH/PULL 1 KiB, 1 and 1", "push_pull", 1024, DIRECT, 0.9),
    Row("large", "PUSH/PULL 1 MiB, 1 and 1", "push_pull", 1 << 20, DIRECT, 1.3, hwm=16),
    Row(
        "broker", "PUSH/PULL 1 KiB, 8 and 8", "push_pull", 1024,
        ("zmq.proxy", "relayx-broker", "broker"), 0.95, clients=8,
    ),
    Row(
        "inspect", "PUSH/PULL 1 KiB, 1 and 1", "push_pull", 1024,
        ("relayx-off", "relayx-messages"), 0.6,
    ),
)  # fmt: skip

COLUMNS = {
    RATE: ("messages/s", 0),
    "mb_per_s": ("MB/s", 0),
    P50: ("p50 us", 1),
    "p99_us": ("p99 us", 1),
    "cpu_each_us": ("CPU us/msg", 2),
    "cpu_percent": ("CPU %", 0),
    "load_cores": ("load cores", 2),
}


@dataclass
class Result:
    """What one measurement gave.

    :ivar values: by the keys of :data:`COLUMNS`.
    :ivar raw: what the load generator printed.
    """

    values: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)


def measure(row: Row, relay: ZmqRelay, program: Path, seconds: float) -> Result:
    """Put a fresh relay under the load of `row`."""
    try:
        with relay.running() as place:
            ended = subprocess.run(
                [
                    *(str(program), "--seconds", str(seconds), "--warmup", "0.5"),
                    *("--size", str(row.size), "--clients", str(row.clients)),
                    *("--hwm", str(row.hwm)),
                    *("--watch", ",".join(map(str, place.pids()))),
                    *(row.pattern, place.source, place.sink),
                ],
                capture_output=True,
                text=True,
                timeout=seconds + 90,
                check=False,
            )
            said = "; ".join(child.said for child in place.children if child.said)[-500:]
            if ended.returncode:
                return Result(faults=[f"{ended.stderr.strip()[-500:]}; the relay: {said}"])
            raw = json.loads(ended.stdout)
            raw["counted"] = _counted(relay, place, raw["received"])
            return judged(row, raw, seconds)
    except (PeerError, OSError, subprocess.TimeoutExpired) as error:
        return Result(faults=[f"{type(error).__name__}: {error}"])


def _counted(relay: ZmqRelay, place: Place, wanted: int) -> int | None:
    """The relay's own count, which it may tell a little later."""
    deadline = time.monotonic() + WITHIN
    while (found := relay.counted(place)) is not None and found != wanted:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return found


def judged(row: Row, raw: dict[str, Any], seconds: float) -> Result:
    """Figures and faults out of what the load generator printed.

    :param seconds: that were to be measured.
    """
    rate = raw["window"] / seconds
    values = {
        RATE: rate,
        "mb_per_s": rate * row.size / 1e6,
        "cpu_percent": 100 * raw["cpu"] / raw["seconds"],
        "load_cores": raw["load_cpu"] / raw["seconds"],
    }
    if rate:
        values["cpu_each_us"] = raw["cpu"] / raw["seconds"] / rate * 1e6
    if raw["trips"]["count"]:
        values[P50], values["p99_us"] = raw["trips"]["p50_us"], raw["trips"]["p99_us"]
    faults = []
    if raw["sent"] != raw["received"]:
        faults.append(f"{raw['sent']} messages were sent and {raw['received']} received")
    elif not raw["same"]:
        faults.append(f"of {raw['sent']} messages some are others than were sent")
    if raw["wrong"]:
        faults.append(f"{raw['wrong']} messages of another size or out of order")
    if not raw["window"]:
        faults.append("no message came while it was measured")
    if raw.get("counted") not in (None, raw["received"]):
        faults.append(f"it counted {raw['counted']} messages of {raw['received']}")
    return Result(values, faults, raw)


def ratios(row: Row, found: Mapping[str, Sequence[Result]], name: str) -> list[float]:
    """Of a relay's figure to the first relay's, round by round."""
    pairs = zip(found[name], found.get(row.relays[0], ()), strict=False)
    return [
        one.values[row.key] / other.values[row.key]
        for one, other in pairs
        if one.values.get(row.key) and other.values.get(row.key)
    ]


def table(row: Row, found: Mapping[str, Sequence[Result]]) -> list[str]:
    """Its lines."""
    titles = "".join(f"{title:>12}" for title, _ in COLUMNS.values())
    lines = ["", f"{row.name}: {row.title}; to reach: {row.target}"]
    lines.append(f"{'relay':20}{titles}   ratio")
    for name, results in found.items():
        text = f"{name + (' (!)' if any(one.faults for one in results) else ''):20}"
        for key, (_, digits) in COLUMNS.items():
            values = [one.values[key] for one in results if key in one.values]
            text += f"{statistics.median(values):12,.{digits}f}" if values else f"{'-':>12}"
        if of := ratios(row, found, name):
            median = statistics.median(of)
            text += f"   {median:.2f} ({min(of):.2f} to {max(of):.2f})"
            if name != row.relays[0] and name != NoRelay.name:
                text += " met" if row.reached(median) else " NOT MET"
        lines.append(text)
    return lines


def relays(path: str, profiles: Path | None) -> dict[str, ZmqRelay]:
    """All of them, by name."""
    every: list[ZmqRelay] = [
        NoRelay(),
        ZmqHaproxy(),
        ZmqGateway(path=path, profiles=profiles),
        ZmqServer("zmq.proxy", "proxy"),
        BrokerGateway(path=path),
        ZmqServer("broker", "broker"),
        ZmqGateway("relayx-off", path, {"inspect": "off"}, profiles),
        ZmqGateway("relayx-messages", path, {"inspect": "messages"}, profiles),
    ]
    return {relay.name: relay for relay in every}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 50))
@click.option("--seconds", default=3.0, show_default=True, type=click.FloatRange(0.2, 120))
@click.option("--only", default="", metavar="ROW[,..]", help="These rows only.")
@click.option("--peers", "chosen", default="", metavar="NAME[,..]", help="These relays only.")
@click.option("--path", default="", help="The gateway of another checkout.")
@click.option(
    "--profile",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for a profile (pstats) of each run of a gateway; slows it down a lot.",
)
@click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Results as JSON."
)
def main(
    rounds: int,
    seconds: float,
    only: str,
    chosen: str,
    path: str,
    profile: Path | None,
    file: Path | None,
) -> None:
    """Measure ZeroMQ through relays side by side, in turn, in several rounds."""
    if lack := compiler_and_libzmq():
        raise click.ClickException(f"the load generator needs {lack}")
    if profile:
        profile.mkdir(parents=True, exist_ok=True)
    rows = [ROWS[i] for i in choose(only, [row.name for row in ROWS], "--only")]
    every = relays(path, profile)
    named = list(every)
    wanted = {named[i] for i in choose(chosen, named, "--peers")}
    there = {}
    for name in dict.fromkeys(name for row in rows for name in row.relays if name in wanted):
        if lack := every[name].missing():
            click.echo(f"skip {name}: it needs {lack}")
        else:
            there[name] = every[name]
            click.echo(f"{name}: {every[name].version()}")
    found: dict[str, dict[str, list[Result]]] = {
        row.name: {name: [] for name in row.relays if name in there} for row in rows
    }
    loads = [load_average()[0]]
    with tempfile.TemporaryDirectory(prefix="relayx-bench-") as builds:
        try:
            program = loader.build(Path(builds), "zmqload")
        except PeerError as error:
            raise click.ClickException(str(error)) from None
        for number in range(rounds):
            for row in rows:
                names = list(found[row.name])
                turn = number % max(1, len(names))
                for name in (*names[turn:], *names[:turn]):
                    found[row.name][name].append(measure(row, there[name], program, seconds))
                    loads.append(load_average()[0])
    click.echo(f"{rounds} round(s) of {seconds:g} s, load average {min(loads)} to {max(loads)}")
    for row in rows:
        for line in table(row, found[row.name]):
            click.echo(line)
    faults = [
        f"(!) {row}, {name}: {fault}"
        for row, by_relay in found.items()
        for name, results in by_relay.items()
        for result in results
        for fault in result.faults
    ]
    for fault in faults:
        click.echo(fault)
    if file:
        told = {
            "machine": describe(),
            "relays": {name: relay.version() for name, relay in there.items()},
            "rounds": rounds,
            "seconds": seconds,
            "rows": {
                row: {name: [vars(one) for one in results] for name, results in by_relay.items()}
                for row, by_relay in found.items()
            },
        }
        file.write_text(json.dumps(told, indent=1) + "\n")
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main(prog_name="python -m bench.zmq")
