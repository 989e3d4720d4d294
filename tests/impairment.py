"""A UDP proxy that loses, delays and reorders, with a seed; in a thread, or a process of its own.

As a process: ``python -m tests.impairment --target 127.0.0.1:9000 --loss 0.02 --delay 30``. It
prints ``listening HOST:PORT``, and the counts as JSON when its input ends or on SIGTERM.

What becomes of the n-th packet of a flow and a direction depends on the seed alone, so that a
run can be had again as far as its peers send the same. Packets of SRT are told apart by their
header (draft-sharabayko-srt, section 3), so that retransmissions are counted by somebody who is
not libsrt.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import select
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Self

Address = tuple[str, int]

_ROOM = 65536
_BURST = 64
"""Packets that are taken from one socket before the others have their turn."""
_BUFFER = 8 << 20
_SO_RCVBUFFORCE = 33
"""More than the system allows everybody, where we may."""
_CONTROL = 0x80
_RETRANSMITTED = 0x04


@dataclass
class Counts:
    """Packets of one direction.

    :ivar arrived: all; each is either forwarded, dropped or under way.
    :ivar forwarded: sent on.
    :ivar dropped: lost on purpose.
    :ivar refused: lost since the system did not take them (nobody listens).
    :ivar reordered: held back longer than the others.
    :ivar data: those of `arrived` that carry SRT data.
    :ivar retransmitted: those of `data` that are marked as sent before.
    :ivar data_dropped: those of `dropped` that carry SRT data.
    """

    arrived: int = 0
    forwarded: int = 0
    dropped: int = 0
    refused: int = 0
    reordered: int = 0
    data: int = 0
    retransmitted: int = 0
    data_dropped: int = 0

    def add(self, other: Counts) -> None:
        """Sum up."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Direction:
    """One direction of a flow: where it goes, and the dice that are cast for it."""

    send: Callable[[bytes], int]
    dice: random.Random
    counts: Counts = field(default_factory=Counts)


@dataclass
class Flow:
    """One client, by its address, and the socket that stands for it before the target."""

    client: Address
    upstream: socket.socket
    there: Direction
    back: Direction


class Impairment:
    """The proxy; a context manager that runs it in a thread.

    :param target: where packets go.
    :param loss: chance of each packet to be lost, in each direction; may be changed meanwhile.
    :param delay: seconds in each direction; may be changed meanwhile.
    :param reorder: chance of each packet to be held back for `holdback` seconds more.
    :param listen: address and port, 0 for a free one.
    :ivar address: where clients send to.
    """

    def __init__(
        self,
        target: Address,
        loss: float = 0.0,
        delay: float = 0.0,
        reorder: float = 0.0,
        holdback: float = 0.005,
        seed: int = 1,
        listen: Address = ("127.0.0.1", 0),
    ) -> None:
        self.target, self.loss, self.delay = target, loss, delay
        self.reorder, self.holdback, self._seed = reorder, holdback, seed
        self._socket = _udp()
        self._socket.bind(listen)
        self.address: Address = self._socket.getsockname()[:2]
        self.flows: list[Flow] = []
        self._by_client: dict[Address, Flow] = {}
        self._under_way: list[tuple[float, int, bytes, Direction]] = []
        self._number = 0
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._ends, self._end = socket.socketpair()
        self._selector.register(self._ends, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.close()
        self._thread.join()
        self._selector.close()
        for opened in (self._socket, self._ends, *(flow.upstream for flow in self.flows)):
            opened.close()

    @property
    def to_target(self) -> Counts:
        """Of all flows, from clients to the target."""
        return _sum([flow.there.counts for flow in self.flows])

    @property
    def from_target(self) -> Counts:
        """Of all flows, from the target to clients."""
        return _sum([flow.back.counts for flow in self.flows])

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select(self._until_due()):
                if key.fileobj is self._ends:
                    return
                if key.data is None:
                    self._from_clients()
                else:
                    self._from_target(key.data)
            self._forward_due()

    def _until_due(self) -> float | None:
        return max(0.0, self._under_way[0][0] - time.monotonic()) if self._under_way else None

    def _from_clients(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(_BURST):
                packet, client = self._socket.recvfrom(_ROOM)
                flow = self._by_client.get(client)
                self._take(packet, (flow or self._begin(client)).there)

    def _from_target(self, flow: Flow) -> None:
        with suppress(BlockingIOError):
            for _ in range(_BURST):
                try:
                    packet = flow.upstream.recv(_ROOM)
                except ConnectionRefusedError:
                    continue  # what was sent before met nobody; the client gets no word either
                self._take(packet, flow.back)

    def _begin(self, client: Address) -> Flow:
        upstream = _udp()
        upstream.connect(self.target)
        number = len(self.flows)
        dice = [random.Random(f"{self._seed}/{number}/{way}") for way in ("there", "back")]
        flow = Flow(
            client,
            upstream,
            Direction(upstream.send, dice[0]),
            Direction(lambda packet: self._socket.sendto(packet, client), dice[1]),
        )
        self.flows.append(flow)
        self._by_client[client] = flow
        self._selector.register(upstream, selectors.EVENT_READ, flow)
        return flow

    def _take(self, packet: bytes, direction: Direction) -> None:
        counts = direction.counts
        counts.arrived += 1
        is_data = len(packet) >= 16 and not packet[0] & _CONTROL
        counts.data += is_data
        counts.retransmitted += is_data and bool(packet[4] & _RETRANSMITTED)
        lost, held = direction.dice.random(), direction.dice.random()
        if lost < self.loss:
            counts.dropped += 1
            counts.data_dropped += is_data
            return
        delay = self.delay
        if held < self.reorder:
            counts.reordered += 1
            delay += self.holdback
        self._number += 1
        due = time.monotonic() + delay
        heapq.heappush(self._under_way, (due, self._number, packet, direction))

    def _forward_due(self) -> None:
        now = time.monotonic()
        while self._under_way and self._under_way[0][0] <= now:
            _, _, packet, direction = heapq.heappop(self._under_way)
            try:
                direction.send(packet)
            except OSError:
                direction.counts.refused += 1
            else:
                direction.counts.forwarded += 1


def _udp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)  # as much as there may be
    if sys.platform == "linux":
        with suppress(PermissionError):
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    return made


def _sum(every: list[Counts]) -> Counts:
    total = Counts()
    for one in every:
        total.add(one)
    return total


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """Run one until the input ends, or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.impairment")
    parser.add_argument("--target", type=_address, required=True, metavar="HOST:PORT")
    parser.add_argument("--listen", type=_address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--loss", type=float, default=0.0, help="0..1, each direction")
    parser.add_argument("--delay", type=float, default=0.0, help="ms, each direction")
    parser.add_argument("--reorder", type=float, default=0.0, help="0..1, each direction")
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    ends, end = socket.socketpair()
    signal.signal(signal.SIGTERM, lambda *_: end.close())
    with Impairment(
        told.target, told.loss, told.delay / 1000, told.reorder, seed=told.seed, listen=told.listen
    ) as running:
        print("listening {}:{}".format(*running.address), flush=True)
        while ready := select.select([ends, sys.stdin], [], [])[0]:
            if ends in ready or not os.read(sys.stdin.fileno(), _ROOM):
                break
    counts = {"to_target": running.to_target, "from_target": running.from_target}
    print(json.dumps({way: asdict(one) for way, one in counts.items()}), flush=True)


if __name__ == "__main__":
    main()
