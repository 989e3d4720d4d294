"""README's example of the library, run as it stands there."""

from __future__ import annotations

import contextlib
import io
import textwrap
from pathlib import Path
from typing import Any

from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

import relayx.client
from relayx.testing import LocalGateway

README = Path(__file__).resolve().parent.parent / "README.rst"


def python_block(text: str) -> str:
    """The body of the first ``code-block:: python``."""
    lines = text.split(".. code-block:: python\n", 1)[1].splitlines()
    taken = []
    for line in lines:
        if line and not line.startswith(" "):
            break
        taken.append(line)
    return textwrap.dedent("\n".join(taken))


class Example(TestCase):
    """A front end that fetches a page from a back end."""

    @inlineCallbacks
    def test_runs(self) -> Any:
        local = LocalGateway(reactor)
        local.start()
        self.addCleanup(local.stop)
        asked: list[bytes] = []

        async def serve(session: Any) -> None:
            asked.append(await session.stream.read())
            await session.stream.write(b"HTTP/1.0 200 OK\r\n\r\nhello\n")
            session.stream.end()

        backend = relayx.client.Backend(
            reactor, local.gateway, service="web", zmq=1, on_session=serve
        )
        backend.start()
        self.addCleanup(backend.stop)
        done: list[Deferred[None]] = []
        self.patch(relayx.client, "Gateway", lambda *args, **named: local.gateway)
        self.patch(task, "react", lambda main: done.append(main(reactor)))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(python_block(README.read_text()), str(README), "exec"), {})
            yield done[0]
        self.assertEqual(asked, [b"GET /hello.txt HTTP/1.0\r\n\r\n"])
        self.assertEqual(printed.getvalue(), "HTTP/1.0 200 OK\r\n\r\nhello\n")
