"""One thread for all that libzmq has to say: control sockets, monitors, ZAP.

A reactor can wait for a zmq socket's descriptor, but that one tells of changes only, and each
send may take one away unseen; this thread is needed for monitors and ZAP anyway, it polls with
libzmq's own poll, and it is blocked by nothing.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq
from twisted.python import log

from relayx.zmq.hangup import Hangup

Socket = zmq.Socket[bytes]

_AT_ONCE = 100
"""Messages of one socket before the next one has its turn."""


class Attendant:
    """A thread that polls sockets and hands what they receive to whom it concerns.

    Everything but :meth:`start`, :meth:`call` and :meth:`stop` is called in this thread.

    :param context: not ended before this has.
    :ivar hangup: ends connections, in this thread.
    """

    def __init__(self, context: zmq.Context[Socket]) -> None:
        self.context = context
        self._poller = zmq.Poller()
        self._told: dict[Socket, Callable[[list[zmq.Frame]], None]] = {}
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.hangup = Hangup()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="relayx-zmq", daemon=True)

    def start(self) -> None:
        """Begin; from any thread."""
        self._thread.start()

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have something called in this thread; from any thread, and never waits."""
        self._calls.append((function, arguments))
        try:
            os.write(self._write, b"\0")
        except BlockingIOError:
            pass  # the pipe is full: the thread is going to look

    def stop(self) -> None:
        """Close what is left and end the thread; waits for it, so not in the reactor."""
        self.call(self._end)
        self._thread.join()
        os.close(self._read)
        os.close(self._write)
        self.hangup.close()

    def adopt(self, socket: Socket, received: Callable[[list[zmq.Frame]], None]) -> None:
        """Poll a socket from now on, which nobody else uses any more but through :meth:`call`.

        :param received: called with each message.
        """
        self._told[socket] = received
        self._poller.register(socket, zmq.POLLIN)

    def release(self, socket: Socket) -> None:
        """Close a socket; what it has not sent is lost."""
        if self._told.pop(socket, None) is not None:
            self._poller.unregister(socket)
        socket.close(linger=0)

    def receive_all(self, socket: Socket) -> None:
        """Hand on what an adopted socket has now, before its turn."""
        while self._receive(socket):
            pass

    def _end(self) -> None:
        self._ending = True

    def _run(self) -> None:
        self._poller.register(self._read, zmq.POLLIN)
        while not self._ending:
            for ready, _ in self._poller.poll():
                if isinstance(ready, int):
                    self._serve_calls()
                elif ready in self._told:
                    self._receive(ready)
        for socket in list(self._told):
            self.release(socket)

    def _serve_calls(self) -> None:
        os.read(self._read, 4096)
        while self._calls:
            function, arguments = self._calls.popleft()
            try:
                function(*arguments)
            except Exception:
                log.err(None, "a call in the ZeroMQ thread")

    def _receive(self, socket: Socket) -> bool:
        """Hand a socket's messages on; whether there may be more."""
        for _ in range(_AT_ONCE):
            told = self._told.get(socket)
            if told is None:
                return False  # it was released by its last message
            try:
                message = socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return False
            try:
                told(message)
            except Exception:
                log.err(None, "a message in the ZeroMQ thread")
        return True
