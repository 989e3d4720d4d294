"""A relay of bytes between the first two that connect to it, in threads, which records both."""

from __future__ import annotations

import socket
import threading
from types import TracebackType


class Recorder:
    """Listens on a free port of 127.0.0.1; the first to connect is 0, the second 1.

    :ivar port: where.
    :ivar said: what each of the two has sent so far.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.said = (bytearray(), bytearray())
        self._ends: list[socket.socket] = []
        self.first_is_there = threading.Event()
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._listener.close()
        for end in self._ends:
            end.close()

    def wait(self) -> None:
        """Until both have closed and all they said is recorded."""
        for thread in self._threads:
            thread.join(60)

    def _serve(self) -> None:
        for _ in range(2):
            self._ends.append(self._listener.accept()[0])
            self.first_is_there.set()
        self._threads += [
            threading.Thread(target=self._pump, args=(number,), daemon=True) for number in (0, 1)
        ]
        for thread in self._threads[1:]:
            thread.start()
        for thread in self._threads[1:]:
            thread.join()

    def _pump(self, number: int) -> None:
        """Until its end closes; what libzmq throws away at the end of a socket does not matter."""
        source, target = self._ends[number], self._ends[1 - number]
        try:
            while data := source.recv(65536):
                self.said[number].extend(data)
                target.sendall(data)
        except OSError:
            pass
        try:
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
