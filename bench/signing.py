"""``python -m bench.signing``: what a signature adds to a control message, in one process.

Each message is written and read as the gateway does it, unsigned and signed, in turn, in rounds;
the figures are medians of the rounds. The bound is that of P-256: signing and verifying add at
most 1 ms each to a message.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import click

from relayx.core.codec import decode_envelope, decode_payload, encode
from relayx.core.messages import Message, Ping, PortState
from relayx.security.keys import KeyType, VerifyingKey, generate
from relayx.security.signing import Signer, Signing, Verifier

BOUND = 1e-3
"""Seconds that a P-256 signature may add, to writing and to reading a message."""

NOW = 1_795_549_346
KINDS: dict[str, type[Message]] = {Ping.TYPE: Ping, PortState.TYPE: PortState}
PORTS = tuple(range(30_000, 30_200))
MESSAGES: dict[str, Message] = {
    "ping": Ping(c_send=NOW * 10**9 + 1),
    "port_state, 200 ports": PortState(
        zmq_total=100,
        srt_total=100,
        zmq_busy=0,
        srt_busy=0,
        zmq_ready_ports=PORTS[:100],
        srt_ready_ports=PORTS[100:],
        zmq_empty_ports=(),
        srt_empty_ports=(),
    ),
}


def seconds_each(one: Callable[[int], object], count: int) -> float:
    """Seconds that a call takes, on the mean of `count`."""
    start = time.perf_counter()
    for number in range(count):
        one(number)
    return (time.perf_counter() - start) / count


def write(message: Message, number: int) -> bytes:
    """One line of the control plane, unsigned."""
    return encode(message, msg_id=f"m{number}", ts_ms=NOW * 1000)


def read(line: bytes, verifier: Verifier) -> None:
    """A line to a message, verified where the verifier wants it."""
    envelope = decode_envelope(line)
    verifier.check(line, envelope, NOW)
    decode_payload(envelope, KINDS)


def measure(kind: KeyType, message: Message, count: int) -> dict[str, float]:
    """Seconds a message of writing and reading it, unsigned and signed."""
    key = generate(kind)
    signer = Signer("bench", key)
    strict = Verifier([VerifyingKey("bench", key.public_key())], Signing.REQUIRE)
    off = Verifier([], Signing.OFF)
    plain = [write(message, number) for number in range(count)]
    signed = [signer.sign_line(line) for line in plain]
    return {
        "write": seconds_each(lambda number: write(message, number), count),
        "write signed": seconds_each(lambda n: signer.sign_line(write(message, n)), count),
        "read": seconds_each(lambda number: read(plain[number], off), count),
        "read signed": seconds_each(lambda number: read(signed[number], strict), count),
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 50))
@click.option("--count", default=300, show_default=True, type=click.IntRange(1, 50_000))
def main(rounds: int, count: int) -> None:
    """Measure what signatures add to control messages. Exit status 1 past the bound of P-256."""
    missed = False
    click.echo(f"{'key':8} {'message':22} {'step':6} {'unsigned':>9} {'signed':>9} {'ratio':>7}")
    for kind in KeyType:
        for name, message in MESSAGES.items():
            found = [measure(kind, message, count) for _ in range(rounds)]
            for step in ("write", "read"):
                plain = statistics.median(one[step] for one in found)
                signed = statistics.median(one[f"{step} signed"] for one in found)
                line = f"{kind:8} {name:22} {step:6} {plain * 1e6:6.1f} us {signed * 1e6:6.1f} us"
                click.echo(f"{line} {signed / plain:5.0f} x")
                missed |= kind is KeyType.P256 and signed - plain > BOUND
    click.echo(f"P-256 adds {'more than' if missed else 'at most'} {BOUND * 1e3:g} ms")
    if missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main(prog_name="python -m bench.signing")
