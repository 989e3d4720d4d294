"""Brokers beside ``zmq.proxy`` alone, which is C from end to end, in one run.

``python -m bench.zmq_broker`` has eight PUSHs and eight PULLs, a process each, move 1 KiB
messages through one and then the other, some rounds, each round in another order; it prints the
rate of each round, and the median of the rounds' ratios. ``--pattern req_rep`` and ``pub_sub``
do the same for the others.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import zmq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from bench.processes import cpu_seconds
from relayx.zmq.broker import Broker
from relayx.zmq.brokers import Brokers
from relayx.zmq.errors import BrokerError
from relayx.zmq.settings import BrokerSettings, Pattern, Role

HOST = "127.0.0.1"
SERVERS = ("proxy", "broker")
WARM_UP = 1.0
"""Seconds from the start of the clients' messages to that of the count."""
TYPES = {
    Pattern.PUB_SUB: (zmq.XSUB, zmq.XPUB),
    Pattern.PUSH_PULL: (zmq.PULL, zmq.PUSH),
    Pattern.REQ_REP: (zmq.ROUTER, zmq.DEALER),
}


def serve_proxy(pattern: Pattern) -> None:
    """``zmq.proxy`` and nothing else."""
    context = zmq.Context()
    front, back = (context.socket(kind) for kind in TYPES[pattern])
    ports = [socket.bind_to_random_port(f"tcp://{HOST}") for socket in (front, back)]
    print(*ports, flush=True)
    zmq.proxy(front, back)


def serve_broker(pattern: Pattern) -> None:
    """A broker as the gateway has it, beside a reactor."""

    class Events:
        def connectionsChanged(self, broker: Broker) -> None:
            pass

        def brokerEnded(self, broker: Broker, reason: BrokerError) -> None:
            raise SystemExit(str(reason))

    def main(_: Any) -> Deferred[None]:
        brokers = Brokers(reactor, [BrokerSettings(pattern, 0, 0, HOST)], Events())

        def started(_: None) -> Deferred[None]:
            print(*(brokers.brokers[0].port(role) for role in Role), flush=True)
            return Deferred()

        brokers.listen()
        brokers.start()
        return started(None)

    react(main, ())


def take_part(kind: str, port: int, size: int) -> None:
    """Be one client, and print how many messages came in the time that stdin tells."""
    context = zmq.Context()
    socket = context.socket(getattr(zmq, kind))
    socket.linger = 0
    socket.sndtimeo = socket.rcvtimeo = 100
    if kind == "SUB":
        socket.subscribe(b"")
    socket.connect(f"tcp://{HOST}:{port}")
    print("ready", flush=True)
    begin, end = map(float, sys.stdin.readline().split())
    message = bytes(size)
    send, receive, clock, again = socket.send, socket.recv, time.monotonic, zmq.Again
    count = 0
    while (now := clock()) < end:
        try:
            if kind in ("PUSH", "PUB"):
                for _ in range(100):
                    send(message)
            elif kind == "REP":
                send(receive())
            elif kind == "REQ":
                send(message)
                while clock() < end:
                    try:
                        receive()
                        break
                    except again:
                        pass
                count += now >= begin
            else:
                if now < begin:
                    count = 0
                for _ in range(100):
                    receive()
                    count += 1
        except again:
            pass
    print(count, flush=True)


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """This program as a child with other arguments, killed at the end."""
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.zmq_broker", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def measure(server: str, options: argparse.Namespace) -> tuple[float, float]:
    """Messages a second, received by all who count, and the server's CPU time for one in us."""
    pattern = Pattern(options.pattern)
    kinds = {
        Pattern.PUB_SUB: ("PUB", "SUB"),
        Pattern.PUSH_PULL: ("PUSH", "PULL"),
        Pattern.REQ_REP: ("REQ", "REP"),
    }[pattern]
    counting = 0 if pattern is Pattern.REQ_REP else 1
    with running("--serve", server, "--pattern", pattern) as serving:
        ports = _line(serving).split()
        clients = [
            (
                side,
                running(
                    "--client", kinds[side], "--port", ports[side], "--size", str(options.size)
                ),
            )
            for _ in range(options.clients)
            for side in (1, 0)
        ]
        with ExitStack() as stack:
            started = [(side, stack.enter_context(client)) for side, client in clients]
            for _, client in started:
                _line(client)
            begin = time.monotonic() + WARM_UP
            for _, client in started:
                assert client.stdin is not None
                client.stdin.write(f"{begin} {begin + options.seconds}\n")
                client.stdin.flush()
            time.sleep(WARM_UP)
            before = cpu_seconds([serving.pid])
            told = [(side, int(_line(client))) for side, client in started]
            used = cpu_seconds([serving.pid]) - before
    count = sum(count for side, count in told if side == counting)
    return count / options.seconds, used / max(count, 1) * 1e6


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline()


def compare(options: argparse.Namespace) -> None:
    """Rounds of both."""
    ratios, costs = [], []
    for number in range(options.rounds):
        order = SERVERS if number % 2 else SERVERS[::-1]
        found = {server: measure(server, options) for server in order}
        ratios.append(found["broker"][0] / found["proxy"][0])
        costs.append(found["broker"][1] / found["proxy"][1])
        shown = ", ".join("{} {:,.0f}/s {:.2f} us".format(one, *found[one]) for one in SERVERS)
        print(f"round {number + 1}: {shown}, ratio {ratios[-1]:.3f}", flush=True)
    print(
        f"{options.pattern}, {options.size} B, {options.clients} and {options.clients}:"
        f" median ratio {statistics.median(ratios):.3f}"
        f" ({min(ratios):.3f} to {max(ratios):.3f}), of CPU time {statistics.median(costs):.3f},"
        f" libzmq {zmq.zmq_version()}"
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m bench.zmq_broker")
    parser.add_argument("--pattern", default=Pattern.PUSH_PULL, choices=[*map(str, Pattern)])
    parser.add_argument("--size", type=int, default=1024, help="bytes of a message")
    parser.add_argument("--clients", type=int, default=8, help="on each side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        take_part(options.client, options.port, options.size)
    elif options.serve == "proxy":
        serve_proxy(Pattern(options.pattern))
    elif options.serve:
        serve_broker(Pattern(options.pattern))
    else:
        compare(options)


if __name__ == "__main__":
    main()
