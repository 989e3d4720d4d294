"""``python -m bench.srt``: the gateway and srt-live-transmit side by side on SRT.

Each row of the table is one kind of load; the relays take turns inside each round, and every
measurement has a fresh relay. Figures are medians of the rounds. The exit status is 1 after a
fault: a message that was lost, altered or out of order.
"""

from __future__ import annotations

import json
import operator
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bench import loader
from bench.machine import describe, load_average
from bench.options import choose, key_value
from bench.peers.srt_relays import (
    PUBLISHER,
    WATCHER,
    Impaired,
    SrtGateway,
    SrtLiveTransmit,
    SrtRelay,
)
from bench.processes import PeerError

SIZE = 1316
"""Bytes of a message: seven MPEG-TS packets."""


@dataclass(frozen=True)
class Row:
    """One kind of load.

    :ivar rate: Mbit/s of each session.
    :ivar latency: ms, of all four ends.
    :ivar loss: chance of each packet to be lost between the publisher and the relay, each way.
    :ivar delay: ms there, each way.
    """

    name: str
    title: str
    sessions: int = 1
    rate: float = 8.0
    latency: int = 120
    loss: float = 0.0
    delay: float = 0.0

    @property
    def impaired(self) -> bool:
        """Whether the line to the relay is bad."""
        return bool(self.loss or self.delay)


ROWS = (
    Row("one400", "1 session of 410 Mbit/s", rate=410),
    Row("one500", "1 session of 500 Mbit/s", rate=500),
    Row("one100", "1 session of 100 Mbit/s", rate=100),
    Row("twenty8", "20 sessions of 8 Mbit/s", sessions=20),
    Row("delay50", "1 session of 8 Mbit/s, latency 50 ms", latency=50),
    Row("lossy", "1 session of 8 Mbit/s, 2 % loss, 30 ms each way", loss=0.02, delay=30),
)


@dataclass
class Result:
    """What one measurement gave.

    :ivar values: by the keys of :data:`COLUMNS`.
    :ivar raw: what the load generator printed, and the counts of the impairment.
    """

    values: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)


COLUMNS = {
    "mbit_per_s": ("Mbit/s", 1),
    "lost": ("lost", 0),
    "cpu_per_gb": ("CPU s/GB", 2),
    "cpu_percent": ("CPU %", 1),
    "delay_p50": ("p50 ms", 1),
    "delay_p99": ("p99 ms", 1),
    "retransmitted": ("sent again", 0),
    "load_cores": ("load cores", 2),
}


def measure(row: Row, relay: SrtRelay, program: Path, seconds: float, seed: int) -> Result:
    """Put a fresh relay under the load of `row`."""
    with ExitStack() as meanwhile:
        host, children = meanwhile.enter_context(relay.running(row.sessions, row.latency))
        proxies, words = [], []
        for index in range(row.sessions):
            source, sink = relay.ends(host, index)
            if row.impaired:
                proxies.append(Impaired(source, row.loss, row.delay, seed))
                source = proxies[-1].address
            words.append(f"{source[0]}:{source[1]},{sink[0]}:{sink[1]}")
        command = [
            *(str(program), "--seconds", str(seconds), "--warmup", "1"),
            *("--rate", str(row.rate), "--latency", str(row.latency), "--size", str(SIZE)),
            *("--in-id", PUBLISHER, "--out-id", WATCHER),
            *("--watch", ",".join(str(pid) for child in children for pid in child.pids())),
            *words,
        ]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds + 90, check=False
            )
        except subprocess.TimeoutExpired:
            raise PeerError("the load generator did not end") from None
        finally:
            counts = [proxy.stop() for proxy in proxies]
        said = "; ".join(child.said for child in children if child.said)[-500:]
    if ended.returncode:
        return Result(faults=[f"{ended.stderr.strip()[-500:]}; the relay: {said}"])
    return judged(json.loads(ended.stdout), counts)


def judged(raw: dict[str, Any], counts: Sequence[dict[str, dict[str, int]]]) -> Result:
    """Figures and faults out of what the load generator printed.

    :param counts: of the impairments, where there were any.
    """
    bytes_moved, seconds = raw["bytes"], raw["seconds"]
    values = {
        "mbit_per_s": raw["mbit_per_s"],
        "lost": float(raw["lost"]),
        "cpu_percent": 100 * raw["cpu"] / seconds,
        "delay_p50": raw["delay"]["p50_us"] / 1000,
        "delay_p99": raw["delay"]["p99_us"] / 1000,
        "retransmitted": float(raw["source"]["retransmitted"]),
        "load_cores": raw["load_cpu"] / seconds,
    }
    if bytes_moved:
        values["cpu_per_gb"] = raw["cpu"] / bytes_moved * 1e9
    faults = [
        f"{raw[key]} of {raw['sent']} messages {what}"
        for key, what in (
            ("lost", "lost"),
            ("out_of_order", "out of order"),
            ("corrupt", "altered"),
        )
        if raw[key]
    ]
    if raw["stuck_ms"]:
        faults.append(f"the relay took nothing for {raw['stuck_ms']} ms")
    if counts:
        raw["impairment"] = counts
        seen = sum(one["to_target"]["retransmitted"] for one in counts)
        if seen != raw["source"]["retransmitted"]:
            faults.append(f"sent again: {values['retransmitted']:.0f} told, {seen} seen")
    return Result(values, faults, raw)


def table(row: Row, found: dict[str, list[Result]], base: str) -> list[str]:
    """Its lines."""
    head = f"{'relay':20}" + "".join(f"{title:>12}" for title, _ in COLUMNS.values())
    lines = ["", f"{row.name}: {row.title}", head + f"{'CPU ratio':>12}{'p99 + ms':>12}"]
    for name, results in found.items():
        text = f"{name + (' (!)' if any(one.faults for one in results) else ''):20}"
        for key, (_, digits) in COLUMNS.items():
            values = [one.values[key] for one in results if key in one.values]
            text += f"{statistics.median(values):12,.{digits}f}" if values else f"{'-':>12}"
        pairs = list(zip(results, found.get(base, []), strict=False))
        for key, compared in (("cpu_per_gb", operator.truediv), ("delay_p99", operator.sub)):
            values = [
                float(compared(own.values[key], other.values[key]))
                for own, other in pairs
                if key in own.values and key in other.values
            ]
            text += f"{statistics.median(values):12,.2f}" if values else f"{'-':>12}"
        lines.append(text)
    return lines


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 50))
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0.5, 120))
@click.option("--only", default="", metavar="ROW[,..]", help="These rows only.")
@click.option("--peers", "chosen", default="", metavar="NAME[,..]", help="These relays only.")
@click.option("--srt", multiple=True, metavar="KEY=VALUE", help="A key of the section srt.")
@click.option("--path", default="", help="The gateway of another checkout.")
@click.option("--seed", default=1, show_default=True, help="Of the impairment in round 1.")
@click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Results as JSON."
)
def main(
    rounds: int,
    seconds: float,
    only: str,
    chosen: str,
    srt: tuple[str, ...],
    path: str,
    seed: int,
    file: Path | None,
) -> None:
    """Measure SRT relays side by side, in turn, in several rounds."""
    rows = [ROWS[i] for i in choose(only, [row.name for row in ROWS], "--only")]
    keys = dict(key_value(text, "--srt") for text in srt)
    every: list[SrtRelay] = [SrtLiveTransmit(), SrtGateway(path=path, srt=keys)]
    relays = []
    for i in choose(chosen, [relay.name for relay in every], "--peers"):
        if lack := every[i].missing():
            click.echo(f"skip {every[i].name}: it needs {lack}")
        else:
            relays.append(every[i])
            click.echo(f"{every[i].name}: {every[i].version()}")
    base = every[0].name
    found: dict[str, dict[str, list[Result]]] = {
        row.name: {relay.name: [] for relay in relays} for row in rows
    }
    loads = [load_average()[0]]
    with tempfile.TemporaryDirectory(prefix="relayx-bench-") as builds:
        try:
            program = loader.build(Path(builds), "srtload")
            for number in range(rounds):
                for row in rows:
                    turn = number % max(1, len(relays))
                    for relay in (*relays[turn:], *relays[:turn]):
                        result = measure(row, relay, program, seconds, seed + number)
                        found[row.name][relay.name].append(result)
                        loads.append(load_average()[0])
        except PeerError as error:
            raise click.ClickException(str(error)) from None
    click.echo(f"{rounds} round(s) of {seconds:g} s, load average {min(loads)} to {max(loads)}")
    faulty = False
    for row in rows:
        for line in table(row, found[row.name], base):
            click.echo(line)
        for name, results in found[row.name].items():
            for result in results:
                for fault in result.faults:
                    faulty = True
                    click.echo(f"(!) {name}: {fault}")
    if file:
        told = {
            "machine": describe(),
            "relays": {relay.name: relay.version() for relay in relays},
            "rounds": rounds,
            "seconds": seconds,
            "rows": {
                row: {name: [vars(one) for one in results] for name, results in by_relay.items()}
                for row, by_relay in found.items()
            },
        }
        file.write_text(json.dumps(told, indent=1) + "\n")
    if faulty:
        raise SystemExit(1)


if __name__ == "__main__":
    main(prog_name="python -m bench.srt")
