"""``python -m bench.operations``: how much the relay slows while it is looked at.

A stream or a ping-pong goes through the gateway, in turn with nobody at its admin HTTP, with
``/metrics`` scraped once a second, and with wrk on ``/healthz`` as hard as it can besides. The
figures are medians of the rounds, the ratios those to the same round with nobody there.
"""

from __future__ import annotations

import http.client
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from bench import loader
from bench import measured as m
from bench.idle import raise_descriptor_limit
from bench.machine import load_average
from bench.measured import Measured
from bench.peers.gateway import HTTP_PORT, Gateway
from bench.processes import PATIENCE, PeerError
from bench.workloads import Streams

CONNECTIONS = 8
"""That wrk keeps open."""

SCRAPE_EVERY = 1.0
NOBODY, SCRAPED, FLOODED = "nobody", "scraped", "scraped, wrk"
WORKLOADS = {
    Streams("bulk1", "bulk, 1 stream one way", 1, floods=1): m.GBS,
    Streams("ping1", "64 B ping-pong, 1 pair", 1, pings=1): m.TRIPS,
}
"""What goes through the gateway, and the figure that it is about."""

_RATE = re.compile(r"Requests/sec:\s+([0-9.]+)")
_FAULTS = re.compile(r"(?:Socket errors|Non-2xx).*")


class Scraper(threading.Thread):
    """Reads ``/metrics`` once a second; `faults` has what was answered otherwise."""

    def __init__(self, host: str) -> None:
        super().__init__(daemon=True)
        self.faults: list[str] = []
        self._host = host
        self._enough = threading.Event()

    def run(self) -> None:
        """Until it is enough."""
        while not self._enough.wait(SCRAPE_EVERY):
            connection = http.client.HTTPConnection(self._host, HTTP_PORT, timeout=PATIENCE)
            try:
                connection.request("GET", "/metrics")
                answer = connection.getresponse()
                if answer.status != http.client.OK or not answer.read():
                    self.faults.append(f"/metrics answered {answer.status}")
            except OSError as error:
                self.faults.append(f"/metrics: {error}")
            finally:
                connection.close()

    def stop(self) -> None:
        """It is enough."""
        self._enough.set()
        self.join()


@contextmanager
def scraped(host: str, result: Measured) -> Iterator[None]:
    """Somebody scrapes meanwhile; faults go to `result`."""
    scraper = Scraper(host)
    scraper.start()
    try:
        yield
    finally:
        scraper.stop()
        result.faults += scraper.faults


@contextmanager
def flooded(host: str, result: Measured) -> Iterator[None]:
    """Wrk asks for ``/healthz`` meanwhile; its requests a second go to `result`."""
    told = ["--threads=1", f"--connections={CONNECTIONS}", "--duration=600s"]
    wrk = subprocess.Popen(
        ["wrk", *told, f"http://{host}:{HTTP_PORT}/healthz"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield
        wrk.send_signal(signal.SIGINT)  # it says how it went
        said, _ = wrk.communicate(timeout=PATIENCE)
        result.raw["requests_per_s"], faults = read_wrk(said)
        result.faults += faults
    finally:
        wrk.kill()
        wrk.communicate()


def read_wrk(said: str) -> tuple[float, list[str]]:
    """Requests a second, and what went wrong, out of what wrk wrote."""
    rate = _RATE.search(said)
    if rate is None:
        return 0.0, [f"wrk: {' '.join(said.split())}"]
    return float(rate[1]), [f"wrk: {fault}" for fault in _FAULTS.findall(said)]


def measure(workload: Streams, how: str, load: loader.Loader) -> Measured:
    """A fresh gateway under `workload`, with somebody at its admin HTTP or nobody."""
    watched = Measured()
    with Gateway(http=True).running(workload.sessions) as running, ExitStack() as meanwhile:
        if how != NOBODY:
            meanwhile.enter_context(scraped(running.host, watched))
        if how == FLOODED:
            meanwhile.enter_context(flooded(running.host, watched))
        result = workload.measure(running, load)
        meanwhile.close()
    result.faults += watched.faults
    result.raw |= watched.raw
    return result


def table(workload: Streams, found: dict[str, list[Measured]]) -> Iterator[str]:
    """Its lines."""
    figure = WORKLOADS[workload]
    cost = m.CPU_GB if workload.floods else m.CPU_TRIPS
    yield f"\n{workload.title}"
    yield (
        f"{'admin HTTP':14} {figure.title:>9} {'ratio':>6} {'least':>6} {'most':>6} "
        f"{cost.title:>11} {'p50 µs':>8} {'p99 µs':>9} {'requests/s':>11}"
    )
    for how, results in found.items():
        ratios = [
            one.values[figure.key] / alone.values[figure.key]
            for one, alone in zip(results, found[NOBODY], strict=True)
        ]

        def middle(figure: m.Figure, results: list[Measured] = results) -> str:
            values = [one.values[figure.key] for one in results if figure.key in one.values]
            return f"{statistics.median(values):,.{figure.digits}f}" if values else "-"

        asked = statistics.median(one.raw.get("requests_per_s", 0.0) for one in results)
        yield (
            f"{how:14} {middle(figure):>9} {statistics.median(ratios):6.2f} "
            f"{min(ratios):6.2f} {max(ratios):6.2f} {middle(cost):>11} "
            f"{middle(m.P50):>8} {middle(m.P99):>9} {asked:11,.0f}"
        )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 50))
@click.option("--seconds", default=3.0, show_default=True, type=click.FloatRange(0.1, 60))
def main(rounds: int, seconds: float) -> None:
    """Measure how the relay fares while its admin HTTP is busy. Exit status 1 after a fault."""
    if shutil.which("wrk") is None:
        raise click.ClickException("it needs wrk (Debian package wrk)")
    raise_descriptor_limit()
    found: dict[Streams, dict[str, list[Measured]]] = {
        workload: {how: [] for how in (NOBODY, SCRAPED, FLOODED)} for workload in WORKLOADS
    }
    faults = []
    with tempfile.TemporaryDirectory(prefix="relayx-bench-") as builds:
        try:
            program = loader.build(Path(builds))
            load = loader.Loader(program, seconds, warmup=min(0.5, seconds / 2))
            click.echo(f"{Gateway().version()}, load average {load_average()}")
            for number in range(rounds):
                for workload, by_how in found.items():
                    for how in (*list(by_how)[number % 3 :], *list(by_how)[: number % 3]):
                        by_how[how].append(measure(workload, how, load))
                        faults += by_how[how][-1].faults
        except PeerError as error:
            raise click.ClickException(str(error)) from None
    for workload, by_how in found.items():
        for line in table(workload, by_how):
            click.echo(line)
    for fault in faults:
        click.echo(f"(!) {fault}")
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main(prog_name="python -m bench.operations")
