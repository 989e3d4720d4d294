"""Leases, the reaper and takeovers with SRT's data connections (contract sections 3 to 8)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live import Gateway, live
from tests.relayx_process import environment
from tests.srt_live import BE, FE, OPEN, SrtCase, logged, numbered

A_BE = """
import sys
from tests.live import CONTROL_PORT, SECRET, Control11
from tests.srt_peer import SrtPeer
if sys.argv[4]:
    client = Control11((sys.argv[1], CONTROL_PORT), source="127.0.0.1")
    assert client.register("BE", SECRET, sys.argv[4])["status"] == "ok"
be = SrtPeer.connect(sys.argv[1], int(sys.argv[2]), sys.argv[3], latency=20)
print("connected", flush=True)
number = 0
while True:
    if not sys.stdin.readline():
        break
    be.send(number.to_bytes(4, "big"))
    number += 1
"""


@contextmanager
def be_process(gateway: Gateway, registers: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A BE in a process of its own on the first srt port; it sends a message for each line.

    :param registers: the id of a control connection that it has too, "" for none.
    """
    root = str(Path(__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", A_BE, gateway.host, str(gateway.srt[0]), BE, registers],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=environment(PYTHONPATH=f"{root}:{environment()['PYTHONPATH']}"),
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"connected\n":
            raise AssertionError("the BE did not connect")
        yield process
    finally:
        process.kill()
        process.communicate()


class Leases(SrtCase):
    """port_acquire with ``transport`` srt."""

    @live(real_srt={}, data=OPEN)
    def test_fe(self, gateway: Gateway) -> None:
        """It gets a port whose BE is of that transport, and comes under its session."""
        owner = gateway.fe11("eye")
        gateway.waiting(gateway.srt[0])  # by TCP
        be = self.call(gateway, BE, gateway.srt[1])
        self.ready(owner, gateway.srt[1])
        grant = owner.acquire(need_srt=True, transport="srt")
        self.assertEqual((grant["srt_port"], grant["transport"]), (gateway.srt[1], "srt"))
        failed = owner.acquire(need_srt=True, transport="srt")
        self.assertEqual(failed["error_code"], "PORT_EXHAUSTED")
        by_tcp = owner.acquire(need_srt=True)
        self.assertEqual((by_tcp["srt_port"], "transport" in by_tcp), (gateway.srt[0], False))
        fe = self.call(gateway, f"#!::u=eye,s={grant['session_id']}", gateway.srt[1])
        be.send(b"leased")
        self.assertEqual(fe.receive(), b"leased")
        fe.close()
        end = owner.expect("session_end", session_id=grant["session_id"])
        self.assertEqual((end["cause"], end["be_to_fe_bytes"]), ("fe_closed", 6))

    @live(real_srt={}, data=OPEN)
    def test_be(self, gateway: Gateway) -> None:
        """It gets an empty port, which only it by SRT may fill; FEs come as to any other."""
        owner = gateway.be11("cam")
        grant = owner.acquire(need_srt=True, transport="srt")
        port = grant["srt_port"]
        wrong = gateway.dial11(port)
        wrong.hello("BE", "cam")
        self.assertEqual(wrong.refusal(), "NOT_ADMITTED")
        be = self.call(gateway, BE, port)
        self.ready(gateway.fe11("eye"), port)
        fe = self.call(gateway, FE, port)
        be.send(b"x")
        self.assertEqual(fe.receive(), b"x")

    @live(real_srt={}, data=OPEN)
    def test_fe_comes_before_its_be(self, gateway: Gateway) -> None:
        """It waits, and has what the BE sends from its first message on."""
        owner = gateway.be11("cam")
        grant = owner.acquire(need_srt=True, transport="srt")
        port = grant["srt_port"]
        fe = self.call(gateway, f"#!::s={grant['session_id']}", port)
        messages = numbered(0, 20)
        for message in messages:
            fe.send(message)
        self.assertTrue(fe.connected)
        be = self.call(gateway, "#!::u=cam,x-role=BE", port)
        self.assertEqual([be.receive() for _ in messages], messages)
        be.send(b"back")
        self.assertEqual(fe.receive(), b"back")

    @live(real_srt={}, data={**OPEN, "hello_timeout": 0.3})
    def test_fe_waits_no_longer(self, gateway: Gateway) -> None:
        """Than hello_timeout; then it is closed, and the log tells why."""
        owner = gateway.be11("cam")
        grant = owner.acquire(need_srt=True, transport="srt")
        with logged() as lines:
            fe = self.call(gateway, f"#!::s={grant['session_id']}", grant["srt_port"])
            self.assertEqual(fe.receive_all(late=False), [])
            lines.wait_for(str(grant["srt_port"]), "PORT_EMPTY")

    @live(real_srt={}, data=OPEN)
    def test_ttl(self, gateway: Gateway) -> None:
        """A session id is good for no longer."""
        owner, port = gateway.fe11("eye", source="127.66.6.6"), gateway.srt[0]
        self.call(gateway, BE)
        self.ready(owner, port)
        grant = owner.acquire(need_srt=True, transport="srt", ttl_seconds=1)
        self.ready(owner, port)  # again, once it is over
        with logged() as lines:
            self.assertEqual(self.rejected(gateway, f"#!::s={grant['session_id']}"), 1404)
            lines.wait_for("with 1404: TTL_EXPIRED")

    @live(real_srt={}, data=OPEN, relay={"reaper_timeout": 0.5})
    def test_be_lost(self, gateway: Gateway) -> None:
        """The BE's control connection ends: so do its session and its connection."""
        client = gateway.be11("cam", source="127.0.0.1")
        watcher = gateway.fe11("eye", source="127.0.0.1")
        be = self.call(gateway, BE)
        self.ready(watcher, gateway.srt[0])
        fe = self.call(gateway, FE)
        be.send(b"x")
        self.assertEqual(fe.receive(), b"x")
        client.close()
        self.assertEqual(fe.receive_all(late=False), [])
        self.assertEqual(be.receive_all(late=False), [])
        self.assertEqual(watcher.expect("session_end")["cause"], "be_lost")
        watcher.state(lambda state: state["srt_busy"] == 0)
        self.empty(watcher, gateway.srt[0])

    @live(real_srt={}, data=OPEN, relay={"reaper_timeout": 0.5})
    def test_waiting_be_lost(self, gateway: Gateway) -> None:
        client = gateway.be11("cam", source="127.0.0.1")
        watcher = gateway.fe11("eye")
        be = self.call(gateway, BE)
        self.ready(watcher, gateway.srt[0])
        client.close()
        self.assertEqual(be.receive_all(late=False), [])
        self.empty(watcher, gateway.srt[0])

    @live(real_srt={}, data=OPEN)
    def test_takes_the_place_of_its_older_connection(self, gateway: Gateway) -> None:
        """Section 6: of the same BE, of 1.1, at the same address."""
        gateway.be11("cam", source="127.0.0.1")
        watcher, port = gateway.fe11("eye"), gateway.srt[0]
        old = self.call(gateway, BE)
        self.ready(watcher, port)
        new = self.call(gateway, BE)
        self.assertEqual(old.receive_all(late=False), [])
        self.ready(watcher, port)
        fe = self.call(gateway, FE)
        new.send(b"the new one's")
        self.assertEqual(fe.receive(), b"the new one's")

    @live(real_srt={}, data=OPEN)
    def test_control_taken_over(self, gateway: Gateway) -> None:
        """Section 8: a BE's new process has its older data connections closed."""
        gateway.be11("cam", instance="one", source="127.0.0.1")
        watcher, port = gateway.fe11("eye"), gateway.srt[0]
        old = self.call(gateway, BE)
        self.ready(watcher, port)
        gateway.be11("cam", instance="two", source="127.0.0.1")
        self.assertEqual(old.receive_all(late=False), [])
        self.empty(watcher, port)

    @live(real_srt={}, data=OPEN)
    def test_killed(self, gateway: Gateway) -> None:
        """A BE that is killed says nothing: libsrt finds out in five seconds."""
        watcher, port = gateway.fe11("eye"), gateway.srt[0]
        with be_process(gateway) as process:
            self.ready(watcher, port)
            fe = self.call(gateway, FE)
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            self.assertEqual(fe.receive(), bytes(4))
            process.kill()
            self.assertEqual(fe.receive_all(late=False), [])
            self.empty(watcher, port)

    @live(real_srt={}, data=OPEN)
    def test_killed_while_it_waits(self, gateway: Gateway) -> None:
        watcher, port = gateway.fe11("eye"), gateway.srt[0]
        with be_process(gateway) as process:
            self.ready(watcher, port)
            process.kill()
            self.empty(watcher, port)

    @live(real_srt={}, data=OPEN, relay={"reaper_timeout": 0.5})
    def test_registered_and_killed(self, gateway: Gateway) -> None:
        """Its control connection tells of it: be_lost, where libsrt would say be_dead later."""
        watcher, port = gateway.fe11("eye", source="127.0.0.1"), gateway.srt[0]
        with be_process(gateway, registers="cam") as process:
            self.ready(watcher, port)
            fe = self.call(gateway, FE)
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            self.assertEqual(fe.receive(), bytes(4))
            process.kill()
            self.assertEqual(fe.receive_all(late=False), [])
            end = watcher.expect("session_end")
            self.assertEqual((end["cause"], end["be_to_fe_bytes"]), ("be_lost", 4))
            self.empty(watcher, port)

    @live(real_srt={}, data=OPEN, relay={"reaper_timeout": 0.5})
    def test_registered_and_killed_while_it_waits(self, gateway: Gateway) -> None:
        """Its connection is still there when the reaper comes, before libsrt finds out."""
        watcher, port = gateway.fe11("eye"), gateway.srt[0]
        with be_process(gateway, registers="cam") as process:
            self.ready(watcher, port)
            with logged() as lines:
                process.kill()
                self.empty(watcher, port)
                lines.wait_for("BE cam did not come back; 1 of its connections are closed")
