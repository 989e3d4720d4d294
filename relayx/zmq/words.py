"""The words on a broker's control socket: ``zmq_proxy_steerable(3)``'s, and our own."""

from __future__ import annotations

import threading

import zmq

from relayx.zmq.attendant import Socket
from relayx.zmq.counts import Statistics
from relayx.zmq.errors import BrokerError

STATISTICS, TERMINATE = b"STATISTICS", b"TERMINATE"
"""To the proxy."""
_PAUSE, _RESUME = b"PAUSE", b"RESUME"
RUN, END = b"RUN", b"END"
"""To the thread, once the proxy has returned."""
AGAIN, HELD, RUNNING, ENDED = b"AGAIN", b"HELD", b"RUNNING", b"ENDED"
"""From the thread: the proxy begins anew after an error that is none, has returned as it was
told to, begins anew as it was told to, and the thread is ending."""

NOTHING = [bytes(8)] * 8
"""Statistics of a proxy that has moved nothing."""
PAUSES = (_PAUSE, _RESUME)
"""One of them is :func:`pause_word`'s."""

_WAIT = 5000


def pause_word(context: zmq.Context[Socket]) -> bytes:
    """The word that makes this libzmq's proxy pause.

    In 4.3.5 PAUSE resumes and RESUME pauses, so it is tried out on a proxy of its own, which
    has been told both before it has a message to pass.

    :raises BrokerError: where libzmq has no steerable proxy.
    """
    ends = []
    inner = []
    for number, (kind, peer) in enumerate(
        ((zmq.PULL, zmq.PUSH), (zmq.PUSH, zmq.PULL), (zmq.PAIR, zmq.PAIR))
    ):
        end, other = context.socket(kind), context.socket(peer)
        end.bind(f"inproc://relayx.words.{number}")
        other.connect(f"inproc://relayx.words.{number}")
        inner.append(end)
        ends.append(other)
    failed: list[str] = []

    def run() -> None:
        try:
            zmq.proxy_steerable(inner[0], inner[1], None, inner[2])
        except zmq.ZMQError as error:
            failed.append(str(error))
        for socket in inner:
            socket.close(linger=0)

    thread = threading.Thread(target=run, name="relayx-zmq-words", daemon=True)
    thread.start()
    control = ends[2]
    for word in (_RESUME, _PAUSE):
        control.send(word)
    ends[0].send(b"")
    # A turn of the proxy looks at messages first and at its control socket then, and answers
    # before it passes messages on: by the third answer, it would have passed this one.
    passed = -1
    for _ in range(3):
        control.send(STATISTICS)
        passed = _passed(control)
    control.send(TERMINATE)
    if passed >= 0:
        thread.join()  # the word is lost where its socket is closed before
    for socket in ends:
        socket.close(linger=0)
    if passed < 0:
        reason = failed[0] if failed else "it does not answer"
        raise BrokerError(f"libzmq {zmq.zmq_version()}", f"has no steerable proxy: {reason}")
    return _RESUME if passed else _PAUSE


def _passed(control: Socket) -> int:
    """Parts that the proxy has passed, -1 where it does not say so."""
    while control.poll(_WAIT):
        answer = control.recv_multipart()
        if len(answer) == 8:
            return Statistics.read(answer).backend_sent.parts
    return -1
