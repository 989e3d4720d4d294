"""Records what libzmq says, each pattern and mechanism: ``python -m tests.zmtp_record``.

It needs pyzmq and writes ``tests/zmtp_recordings.json``: for each name what the first side said
and what the second did, in hexadecimal. What is sent is here; what a reader has to make of it is
in ``tests/test_zmtp_recordings.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from tests.zmtp_relay import Recorder

FILE = Path(__file__).with_name("zmtp_recordings.json")

Act = Callable[[Any, Any], None]
Setup = Callable[[Any], None]

PARTS = ([b"abc"], [b"a", b"", b"y" * 300], [b""], [b"s" * 255], [b"l" * 256], [b"", b""])
"""Messages of every kind of frame: short, long, empty, the last of the one size and the first of
the other, and in parts."""


def one_way(sender: Any, receiver: Any) -> None:
    for parts in PARTS:
        sender.send_multipart(parts)
    for parts in PARTS:
        assert receiver.recv_multipart() == parts


def ask(requester: Any, replier: Any) -> None:
    for number in range(3):
        requester.send(b"question %d" % number)
        replier.send(b"answer to " + replier.recv())
        assert requester.recv() == b"answer to question %d" % number


def ask_at_once(dealer: Any, replier: Any) -> None:
    for number in range(3):
        dealer.send_multipart([b"", b"question %d" % number])
    for number in range(3):
        replier.send(b"answer to " + replier.recv())
        assert dealer.recv_multipart() == [b"", b"answer to question %d" % number]


def routed(dealer: Any, router: Any) -> None:
    dealer.send(b"hello")
    identity, text = router.recv_multipart()
    router.send_multipart([identity, text, b"z" * 1000])
    assert dealer.recv_multipart() == [b"hello", b"z" * 1000]


def published(publisher: Any, subscriber: Any) -> None:
    """An XPUB tells when it has got a subscription and when that is withdrawn."""
    assert publisher.recv() == b"\x01topic"
    publisher.send_multipart([b"topic", b"text"])
    assert subscriber.recv_multipart() == [b"topic", b"text"]
    subscriber.unsubscribe(b"topic")
    assert publisher.recv() == b"\x00topic"


def both_ways(one: Any, other: Any) -> None:
    """Long enough for a heartbeat, whose PONG comes before the answer."""
    one.send(b"one")
    assert other.recv() == b"one"
    assert not other.poll(250)
    other.send(b"other")
    assert one.recv() == b"other"


def denied(_: Any, server: Any) -> None:
    assert not server.poll(250)


def nothing(_: Any) -> None:
    pass


def identity(name: bytes) -> Setup:
    return lambda each: each.setsockopt(zmq.IDENTITY, name)


def subscribes(subscriber: Any) -> None:
    subscriber.subscribe(b"topic")


def beats(each: Any) -> None:
    each.heartbeat_ivl = 100


def plain_client(password: str) -> Setup:
    def setup(each: Any) -> None:
        each.plain_username, each.plain_password = b"fe-1", password.encode()

    return setup


def plain_server(each: Any) -> None:
    each.plain_server = True


def curve() -> tuple[Setup, Setup]:
    """A client and a server, with keys of their own."""
    (public, secret), (client_public, client_secret) = zmq.curve_keypair(), zmq.curve_keypair()

    def client(each: Any) -> None:
        each.curve_serverkey = public
        each.curve_publickey, each.curve_secretkey = client_public, client_secret

    def server(each: Any) -> None:
        each.curve_server, each.curve_secretkey = True, secret

    return client, server


def record(
    context: Any, kinds: tuple[int, int], setups: tuple[Setup, Setup], act: Act
) -> list[str]:
    """Have two sockets connect to each other and act; return what each said."""
    with Recorder() as relay:
        sockets = [context.socket(kind) for kind in kinds]
        for each, setup in zip(sockets, setups, strict=True):
            each.linger, each.rcvtimeo = 0, 5000
            setup(each)
            each.connect(relay.address)
            assert relay.first_is_there.wait(5)
        act(*sockets)
        for each in sockets:
            each.close()
        relay.wait()
        return [bytes(said).hex() for said in relay.said]


def main() -> None:
    """Make all of them."""
    context = zmq.Context()
    zap = ThreadAuthenticator(context)
    zap.start()
    zap.configure_plain(domain="*", passwords={"fe-1": "right"})
    zap.configure_curve(domain="*", location=zmq.auth.CURVE_ALLOW_ANY)
    none, right = (nothing, nothing), (plain_client("right"), plain_server)
    every: dict[str, tuple[tuple[int, int], tuple[Setup, Setup], Act]] = {
        "push_pull": ((zmq.PUSH, zmq.PULL), none, one_way),
        "req_rep": ((zmq.REQ, zmq.REP), none, ask),
        "dealer_rep": ((zmq.DEALER, zmq.REP), none, ask_at_once),
        "dealer_router": (
            (zmq.DEALER, zmq.ROUTER),
            (identity(b"d-1"), identity(b"r" * 255)),
            routed,
        ),
        "xpub_sub": ((zmq.XPUB, zmq.SUB), (nothing, subscribes), published),
        "pair": ((zmq.PAIR, zmq.PAIR), (beats, nothing), both_ways),
        "plain_push_pull": ((zmq.PUSH, zmq.PULL), right, one_way),
        "plain_req_rep": ((zmq.REQ, zmq.REP), right, ask),
        "plain_denied": ((zmq.REQ, zmq.REP), (plain_client("wrong"), plain_server), denied),
        "curve_push_pull": ((zmq.PUSH, zmq.PULL), curve(), one_way),
        "curve_req_rep": ((zmq.REQ, zmq.REP), curve(), ask),
        "mismatch": ((zmq.PUB, zmq.PULL), none, denied),
    }
    said = {name: record(context, *how) for name, how in every.items()}
    zap.stop()
    context.term()
    FILE.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
