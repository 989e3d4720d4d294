"""The stream of events: what is told, and readers that do not read."""

from __future__ import annotations

import gc
import socket
import tracemalloc
from itertools import islice

from twisted.trial.unittest import TestCase

from relayx.admin.events import MOST_READERS, PATIENCE
from tests.admin_peer import HTTP, TOKEN, Asking, get, http_address, on_one_connection, until
from tests.guide_peer import DEADLINE
from tests.live import Gateway, live
from tests.reloading import Filed, filed, in_the_reactor


class Streams(TestCase):
    """On real sockets."""

    @live(http=HTTP, data={"be_on_fe_close": "close"})
    def test_what_is_told(self, gateway: Gateway) -> None:
        """History first, then what was logged of late, then snapshots and events as they come."""
        gateway.fe("f"), gateway.be("b")
        stream = Asking(gateway, "/api/v1/events")
        _, headers = stream.begun()
        self.assertEqual(headers.get_content_type(), "text/event-stream")
        told = stream.events()
        self.assertEqual(next(told)[0], "history")
        late = []
        for kind, data in told:
            if kind == "snapshot":
                break
            late.append((kind, data["event"]))
        self.assertEqual(late.count(("happened", "registered")), 2)
        self.assertEqual(data["status"]["sessions"]["running"], 0)
        fe, be = gateway.pair(gateway.zmq[0])
        for kind, data in told:
            if kind == "snapshot" and data["sessions"]["total"] == 1:
                break
        fe.shutdown()
        be.shutdown()
        for kind, data in told:
            if kind == "happened" and data["event"] == "session_end":
                break
        self.assertEqual(data["fields"]["cause"], "fe_closed")
        stream.close()

    @filed(http=HTTP)
    def test_another_token(self, gateway: Filed) -> None:
        """Whoever reads by the token that was taken back reads no more."""
        gateway.reload({"admin_token": TOKEN})
        stream = Asking(gateway, "/api/v1/events", token=TOKEN)
        stream.begun()
        gateway.reload({"admin_token": TOKEN}, log={"level": "warn"})
        told = stream.events()
        for kind, data in told:
            if kind == "snapshot" and data["status"]["revision"] == 3:
                break  # a reload without another token has left it alone
        gateway.reload({"admin_token": TOKEN[::-1]})
        self.assertLess(len(list(islice(told, 20))), 20)  # it ends
        stream.close()

    @live(http=HTTP)
    def test_many_readers(self, gateway: Gateway) -> None:
        """One more than there may be is refused, until one goes."""
        readers = [Asking(gateway, "/api/v1/events") for _ in range(MOST_READERS)]
        self.assertEqual({reader.begun()[0] for reader in readers}, {200})
        refused = get(gateway, "/api/v1/events")
        self.assertEqual((refused.status, refused.code), (503, "TOO_MANY_READERS"))
        readers[0].close()

        def one_more() -> bool:
            again = Asking(gateway, "/api/v1/events")
            status, _ = again.begun()
            again.close()
            return status == 200

        self.assertTrue(until(one_more))
        for reader in readers:
            reader.close()

    @live(http=HTTP, zmq=100, srt=50, log={"level": "error"})
    def test_hung_reader(self, gateway: Gateway) -> None:
        """It takes no more memory than its bounds, and is dropped; others are served."""
        hung = socket.socket()
        hung.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        hung.settimeout(2 * DEADLINE + PATIENCE)
        hung.connect(http_address(gateway))
        hung.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertTrue(hung.recv(1).startswith(b"H"))
        tracemalloc.start()
        try:
            before = self.events_in_memory()
            for turn in range(30):
                for number in range(100):
                    text = f"line {turn} {number} {'x' * 1000}"
                    in_the_reactor(gateway.service.say, "info", "test", text)
                # on one connection: each new one is a line in the log, which is kept in memory
                # where several processes run tests
                statuses, _ = on_one_connection(gateway, *["/api/v1/status"] * 10)
                self.assertEqual(set(statuses), {200})
            grown = self.events_in_memory() - before
        finally:
            tracemalloc.stop()
        self.assertLess(grown, 1_500_000)
        with self.assertRaises(ConnectionError):
            while hung.recv(65536):
                pass
            raise ConnectionResetError
        hung.close()
        self.assertEqual(get(gateway, "/healthz").status, 200)

    def events_in_memory(self) -> int:
        """Bytes that are traced, and not garbage."""
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
