"""A gateway with brokers by its configuration, and peers of pyzmq for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    import zmq
    from zmq.utils.monitor import recv_monitor_message
except ImportError as error:
    if error.name != "zmq":
        raise
    NO_ZMQ: str | None = "pyzmq is not installed"
else:
    NO_ZMQ = None

from tests.live import Peers, hosted, on_free_ports
from tests.reloading import Filed

LONGEST = 30_000
"""Milliseconds that a peer waits before its test fails."""
FRONT = ("PUB", "PUSH", "REQ", "DEALER")
BROKERS = tuple({"pattern": pattern} for pattern in ("push_pull", "pub_sub", "req_rep"))


def entries(peers: Peers, brokers: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """``zmq.brokers``, two ports each from the first zmq port on."""
    return [
        {**one, "frontend": peers.zmq[2 * i], "backend": peers.zmq[2 * i + 1]}
        for i, one in enumerate(brokers)
    ]


class Meeting:
    """Peers of pyzmq for one gateway; closed together."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.context = zmq.Context()
        self._kept: list[Any] = []  # pyzmq closes a socket that nobody has any more
        peers.before_closing(lambda: self.context.destroy(linger=0))

    def connect(self, kind: str, broker: int = 0, side: int | None = None, **options: Any) -> Any:
        """A socket at the side where its kind belongs.

        :param broker: which, by the order of the configuration.
        :param side: 0 for the frontend, 1 for the backend.
        """
        made = self.socket(kind, **options)
        at = (0 if kind in FRONT else 1) if side is None else side
        made.connect(f"tcp://{self.peers.host}:{self.peers.zmq[2 * broker + at]}")
        return made

    def socket(self, kind: str, **options: Any) -> Any:
        """A socket that has not connected."""
        made = self.context.socket(getattr(zmq, kind))
        made.linger = 0
        made.rcvtimeo = made.sndtimeo = LONGEST
        made.reconnect_ivl = -1
        self._kept.append(made)
        for name, value in options.items():
            setattr(made, name, value)
        return made

    def admitted(self, kind: str, broker: int = 0, source: str = "", **options: Any) -> bool:
        """Whether the handshake of a new connection succeeds; closes it again.

        :param source: the address to come from.
        """
        made = self.socket(kind, **options)
        watch = made.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )
        host, port = self.peers.host, self.peers.zmq[2 * broker + (kind not in FRONT)]
        made.connect(f"tcp://{source}:0;{host}:{port}" if source else f"tcp://{host}:{port}")
        if not watch.poll(LONGEST):
            raise AssertionError("the handshake neither succeeds nor fails")
        event = recv_monitor_message(watch)["event"]
        made.disable_monitor()
        made.close()
        return bool(event == zmq.EVENT_HANDSHAKE_SUCCEEDED)


class Brokered(Filed):
    """A gateway in the test's own process, whose first zmq ports brokers have."""

    def __init__(
        self, directory: Path, brokers: tuple[dict[str, Any], ...], sections: dict[str, Any]
    ) -> None:
        self.brokers = brokers
        super().__init__(directory, 2 * len(brokers) + 2, 0, sections)

    @property
    def free(self) -> list[int]:
        """The zmq ports that no broker has."""
        return self.zmq[2 * len(self.brokers) :]

    def sections(self, **changed: Any) -> dict[str, Any]:
        """See Filed; the brokers are those of the start unless ``zmq`` is changed."""
        return super().sections(**{"zmq": {"brokers": entries(self, self.brokers)}, **changed})

    def start(self) -> None:
        """See Filed."""
        super().start()
        self.meeting = Meeting(self)


def brokered(
    *brokers: dict[str, Any],
    prepare: Callable[[Path], None] = lambda directory: None,
    **sections: Any,
) -> Callable[[Callable[..., None]], Callable[..., Any]]:
    """Run a test in a thread, with a :class:`Brokered` gateway as its argument.

    :param brokers: entries of ``zmq.brokers`` without their ports; ``{dir}`` in a value is the
        gateway's directory.
    :param prepare: called with that before.
    :param sections: configuration keys by section; admission is open unless told.
    """

    def start(case: Any) -> Brokered:
        directory = Path(case.mktemp()).absolute()
        directory.mkdir(parents=True)
        prepare(directory)
        inside = _filled(sections, directory)
        inside["data"] = {"admission": "open", **inside.get("data", {})}
        filled = tuple(_filled(one, directory) for one in brokers)

        def begin() -> Brokered:
            gateway = Brokered(directory, filled, inside)
            gateway.start()
            return gateway

        return on_free_ports(begin)

    return hosted(start)


def _filled(value: Any, directory: Path) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, directory) for key, each in value.items()}
    return value.replace("{dir}", str(directory)) if isinstance(value, str) else value


@contextmanager
def meeting(peers: Peers) -> Iterator[Meeting]:
    """Peers that are closed at the end of the block."""
    found = Meeting(peers)
    try:
        yield found
    finally:
        found.context.destroy(linger=0)
