"""What is different after a reload, for those who are there and those who come (section 1)."""

from __future__ import annotations

import json
import ssl
import time
from pathlib import Path
from typing import Any

from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from relayx.config.faults import ConfigError
from relayx.logs import Renderer
from tests.data_certificates import write_pair
from tests.data_tls_peer import TlsData
from tests.guide_peer import DEADLINE, WasResetError, hello_line
from tests.live import NEVER, SECRET, live
from tests.reloading import Filed, filed, in_the_reactor

OTHER_SECRET = "another-secret-of-more-than-32-bytes"
BALANCER = "127.77.0.1"
HEADER = b"PROXY TCP4 198.51.100.7 203.0.113.1 40312 5555\r\n"


class Control(TestCase):
    """Control connections."""

    @filed()
    def test_lowered_limits_drop_nobody(self, gateway: Filed) -> None:
        clients = [gateway.fe(), gateway.fe(), gateway.be(), gateway.be()]
        gateway.reload(relay={"max_fe": 1, "max_be": 1})
        for client in clients:
            client.ping()
        for role in ("FE", "BE"):
            auth = gateway.control().register(role, SECRET)
            self.assertEqual(auth["error_code"], "CAPACITY")
        gateway.reload(relay={"max_fe": 3})
        gateway.fe()

    @filed()
    def test_register_timeout(self, gateway: Filed) -> None:
        """Also for those who have connected already."""
        client = gateway.control()
        gateway.fe().ping()
        gateway.reload(control={"register_timeout": 0.05})
        self.assertEqual(client.rest()[0]["payload"]["error_code"], "REGISTER_REQUIRED")

    @filed()
    def test_idle_timeout(self, gateway: Filed) -> None:
        client = gateway.fe()
        gateway.reload(control={"idle_timeout": 0.1})
        client.rest()

    @filed()
    def test_message_size_and_rate(self, gateway: Filed) -> None:
        """Clients that are there are held to the new limits."""
        client, other = gateway.fe(), gateway.fe()
        gateway.reload(control={"max_message_bytes": 1024}, limits={"messages_per_second": 1})
        client.say("ping", {"c_send": 1, "filler": "x" * 2000})
        self.assertEqual(client.expect("error")["error_code"], "INVALID_MESSAGE")
        for _ in range(5):
            other.say("port_state_q", {})
        self.assertEqual(other.expect("error")["error_code"], "RATE_LIMITED")

    @filed()
    def test_unregistered(self, gateway: Filed) -> None:
        """Past the new limit the oldest go at once."""
        waiting = [gateway.control() for _ in range(3)]
        gateway.fe().ping()
        gateway.reload(control={"max_unregistered": 1})
        for client in waiting[:2]:
            self.assertEqual(client.rest(), [])
        self.assertEqual(waiting[2].register("FE", SECRET)["status"], "ok")

    @filed()
    def test_secrets(self, gateway: Filed) -> None:
        """Who is registered stays; who comes needs the new one, or the previous."""
        client = gateway.fe()
        gateway.reload({"auth_secret": OTHER_SECRET})
        client.ping()
        auth = gateway.control().register("FE", SECRET)
        self.assertEqual(auth["error_code"], "AUTH_FAILED")
        self.assertEqual(gateway.control().register("FE", OTHER_SECRET)["status"], "ok")
        gateway.reload({"auth_secret": OTHER_SECRET, "auth_secret_previous": SECRET})
        gateway.fe()

    @filed()
    def test_clients(self, gateway: Filed) -> None:
        """The entries of ``clients`` hold for what a client asks from now on."""
        cam, phone = gateway.be("cam-1"), gateway.fe("phone")
        impact = gateway.reload(clients=[{"match": "cam-*", "protocols": ["srt"]}])
        self.assertEqual(impact.clients, ("cam-1",))
        grant = cam.acquire()
        self.assertIn("may not use zmq ports", grant["error"])
        self.assertEqual(phone.acquire()["error_code"], "PORT_EXHAUSTED")

    @filed()
    def test_proxies(self, gateway: Filed) -> None:
        """An address that becomes a load balancer's, on both planes, and is none again."""
        gateway.fe(source=BALANCER)
        gateway.reload(proxy_protocol={"trusted": [BALANCER]})
        client = gateway.control(source=BALANCER)
        client.send(HEADER)
        self.assertEqual(client.register("BE", SECRET)["status"], "ok")
        link = gateway.dial11(gateway.zmq[0], source=BALANCER)
        link.send(HEADER + hello_line("BE", ack=True))
        link.expect("RLX1OK")
        gateway.reload()
        gateway.fe(source=BALANCER)

    @filed(limits={"failures_per_minute": 50})
    def test_failures(self, gateway: Filed) -> None:
        gateway.reload(limits={"failures_per_minute": 2, "failure_block": 60.0})
        codes = [gateway.control().register("FE", "wrong")["error_code"] for _ in range(3)]
        self.assertEqual(codes, ["AUTH_FAILED", "AUTH_FAILED", "RATE_LIMITED"])


class DataPorts(TestCase):
    """Data connections and sessions."""

    @filed()
    def test_hello_timeout(self, gateway: Filed) -> None:
        """Also for those who have connected already, and for an FE that comes to wait."""
        client, _ = gateway.fe(), gateway.be()
        link = gateway.dial11(gateway.zmq[1])
        be = gateway.waiting(gateway.zmq[0])
        grant = client.acquire()
        be.close()
        client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        gateway.reload(data={"hello_timeout": 0.05})
        self.assertEqual(link.rest(), (b"", "end"))
        # Its HELLO may come late; how long it waits after that is what counts.
        in_the_reactor(gateway.service.data.data._newcomers.change, NEVER, 256, 256)
        fe = gateway.entering(gateway.zmq[0], session_id=grant["session_id"])
        self.assertEqual(fe.refusal(), "PORT_EMPTY")

    @filed()
    def test_admission(self, gateway: Filed) -> None:
        gateway.fe(), gateway.be("be")
        stranger = gateway.dial11(gateway.zmq[0], source="127.77.0.9")
        stranger.hello("BE")
        self.assertEqual(stranger.refusal(), "NOT_ADMITTED")
        gateway.reload(data={"admission": "open"})
        gateway.waiting(gateway.zmq[0], source="127.77.0.9")

    @filed()
    def test_session_timeouts(self, gateway: Filed) -> None:
        """They hold for sessions that run."""
        client, _ = gateway.fe11("phone"), gateway.be()
        gateway.waiting(gateway.zmq[0])
        gateway.entering(gateway.zmq[0], client_id="phone").expect("RLX1PAIRED")
        gateway.reload(data={"session_idle_timeout": 0.1})
        self.assertEqual(client.expect("session_end")["cause"], "idle_timeout")

    @filed()
    def test_half_close_timeout(self, gateway: Filed) -> None:
        client, _ = gateway.fe11("phone"), gateway.be()
        be = gateway.waiting(gateway.zmq[0])
        fe = gateway.entering(gateway.zmq[0], client_id="phone")
        fe.expect("RLX1PAIRED"), be.expect("RLX1PAIRED")
        fe.shutdown()
        self.assertEqual(be.rest(), (b"", "end"))
        gateway.reload(data={"half_close_timeout": 0.1})
        self.assertEqual(client.expect("session_end")["cause"], "half_close_timeout")

    @filed(data={"be_on_fe_close": "close"})
    def test_kept_or_closed(self, gateway: Filed) -> None:
        """A BE that comes from now on is kept, where it does not say."""
        client, _ = gateway.fe(), gateway.be()
        gateway.reload(data={"be_on_fe_close": "keep", "drain_quiet": 0.05})
        be = gateway.kept(gateway.zmq[0], client)
        for _ in range(2):
            fe = gateway.dial(gateway.zmq[0])
            fe.hello("FE", first=b"x")
            self.assertEqual(be.receive(1), b"x")
            fe.close()
            client.state(lambda state: state["zmq_ready_ports"] == [gateway.zmq[0]])

    @filed()
    def test_advertised_host(self, gateway: Filed) -> None:
        client, _ = gateway.fe(), gateway.be()
        gateway.waiting(gateway.zmq[0])
        gateway.reload(data={"advertise_host": "gateway.example"})
        self.assertEqual(client.acquire()["host"], "gateway.example")

    @filed()
    def test_tls(self, gateway: Filed) -> None:
        """TLS begins, is required, and ends again; sessions go on as they began."""
        folder = Path(self.mktemp())
        folder.mkdir()
        pair = write_pair(folder, "reloaded")
        told = {"certificate": str(pair[0]), "private_key": str(pair[1]), "required": True}
        gateway.fe(), gateway.be()
        fe, be = gateway.pair(gateway.zmq[0])
        gateway.reload(data={"tls": told})
        context = ssl.create_default_context(cafile=str(pair[0]))
        link = gateway.open(TlsData, gateway.zmq[1], context=context)
        link.hello("BE", ack=True)
        link.expect("RLX1OK")
        plain = gateway.dial11(gateway.zmq[2])
        plain.hello("BE")
        self.assertEqual(plain.refusal(), "HELLO_INVALID")
        pair[1].write_text("broken")
        self.assertIn("reloaded.key", gateway.refused(data={"tls": told}))
        gateway.reload()
        gateway.waiting(gateway.zmq[2])
        fe.send(b"goes on")
        self.assertEqual(be.receive(7), b"goes on")

    @filed(data={"keepalive": 30.0})
    def test_keepalive_and_buffers(self, gateway: Filed) -> None:
        """Sessions go on, and new ones begin, whatever changes below them."""
        gateway.fe(), gateway.be()
        pairs = [gateway.pair(gateway.zmq[0])]
        gateway.reload(data={"keepalive": 1.0}, relay={"ring_buffer_size": 1 << 20})
        pairs.append(gateway.pair(gateway.zmq[1]))
        for fe, be in pairs:
            fe.send(b"x" * 100_000)
            self.assertEqual(be.receive(100_000), b"x" * 100_000)


class Records(TestCase):
    """The log, the audit log, and what is known of reloads."""

    @filed(log={"level": "error"})
    def test_log_stream(self, gateway: Filed) -> None:
        """Who gets lines, which lines, and how they look."""
        fe, be = gateway.fe(), gateway.be()
        gateway.reload(log={"stream": "be", "level": "info"})
        gateway.fe("somebody")
        line = be.find("log")["payload"]
        while "somebody" not in line:
            line = be.find("log")["payload"]
        gateway.reload(log={"stream": "all", "level": "info", "format": "json"})
        gateway.fe("another")
        while "another" not in line:
            line = fe.find("log")["payload"]
        self.assertEqual(json.loads(line)["client_id"], "another")
        gateway.reload()
        gateway.fe("third")
        fe.ping()
        self.assertFalse([m for m in fe.log if m["type"] == "log" and "third" in m["payload"]])

    @filed()
    def test_audit(self, gateway: Filed) -> None:
        """Another file from now on; what was written stays where it is; nowhere in the end."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        one, two = folder / "one.jsonl", folder / "two.jsonl"
        gateway.reload(audit={"file": str(one)})
        gateway.fe("first")
        gateway.reload(audit={"file": str(two)}, relay={"max_fe": 40})
        gateway.fe("second")
        self.assertIn("audit.file", gateway.refused(audit={"file": str(folder)}))
        gateway.reload()
        third = gateway.fe("third")
        first = self.events(third, one, "registered")
        second = self.events(third, two, "reload_failed")
        self.assertIn(("registered", "first"), first)
        self.assertNotIn("second", str(first))
        self.assertIn(("registered", "second"), second)
        self.assertIn("relay.max_fe: 50 -> 40", two.read_text() + one.read_text())
        self.assertNotIn("third", str(second))
        for path, text in ((one, f'audit.file: "{one}" -> "{two}"'), (two, f'"{two}" -> ""')):
            # Where it ends is in the file that ends, or it could be turned off unseen.
            self.written(third, path, json.dumps(text)[1:-1])

    def written(self, client: Any, path: Path, text: str) -> None:
        """Wait until a thread has written some text."""
        deadline = time.monotonic() + DEADLINE
        while text not in path.read_text():
            self.assertLess(time.monotonic(), deadline, path.read_text())
            client.ping()

    def events(self, client: Any, path: Path, last: str) -> list[tuple[str, str]]:
        """The events of an audit log and whose they are, once a thread has written `last`."""
        self.written(client, path, f'"{last}"')
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [(line["event"], line["client"]) for line in lines]

    @filed()
    def test_lines_key_by_key(self, gateway: Filed) -> None:
        """Each changed key is a line, with no secret in it; a refusal is one with its faults."""
        lines: list[str] = []
        render = Renderer("info", "text")

        def keep(event: Any) -> None:
            if event.get("event") in ("reloaded", "reload_failed"):
                lines.append(render(event) or "")

        globalLogPublisher.addObserver(keep)
        self.addCleanup(globalLogPublisher.removeObserver, keep)
        gateway.reload(
            {"auth_secret": OTHER_SECRET}, relay={"max_fe": 9}, data={"drain_quiet": 0.5}
        )
        gateway.refused(relay={"max_fe": 0, "max_be": 0})
        told = "".join(lines)
        for part in (
            "relay.max_fe: 50 -> 9", "data.drain_quiet: 200ms -> 500ms",
            "auth_secret: (hidden) -> (hidden)", "configuration revision 2: 3 keys changed",
            "stays at revision 2", "relay.max_fe = 0", "relay.max_be = 0",
        ):  # fmt: skip
            self.assertIn(part, told)
        self.assertNotIn(OTHER_SECRET, told)
        self.assertNotIn(SECRET, told)

    @filed()
    def test_revision_and_result(self, gateway: Filed) -> None:
        reloading = gateway.service.reloading
        self.assertEqual((reloading.revision, reloading.last_ok, reloading.last_at), (1, True, 0.0))
        gateway.reload(relay={"max_fe": 9})
        self.assertEqual((reloading.revision, reloading.last_ok, reloading.applied), (2, True, 1))
        before = reloading.last_at
        self.assertGreater(before, 0.0)
        gateway.refused(relay={"max_fe": 0})
        self.assertEqual((reloading.revision, reloading.last_ok, reloading.refused), (2, False, 1))
        self.assertEqual([fault.key for fault in reloading.last_faults], ["relay.max_fe"])
        self.assertEqual(gateway.service.config.relay.max_fe, 9)
        gateway.reload(relay={"max_fe": 9})
        self.assertEqual(
            (reloading.revision, reloading.last_ok, reloading.last_faults), (3, True, ())
        )

    @filed()
    def test_plan_changes_nothing(self, gateway: Filed) -> None:
        """A dry run tells all, also of what needs a restart, and does not count."""
        reloading = gateway.service.reloading
        gateway.write(relay={"max_fe": 9, **gateway.ports(4, 2)}, data={"splice": "off"})
        impact = in_the_reactor(gateway.service.plan_reload)
        self.assertEqual(impact.restart, ("data.splice",))
        self.assertEqual([fault.key for fault in impact.faults], ["data.splice"])
        self.assertEqual(impact.ports_added, (gateway.zmq[-1] + 1,))
        self.assertIn("3 keys changed, 1 port added", str(impact))
        gateway.config.unlink()
        self.assertRaises(ConfigError, in_the_reactor, gateway.service.plan_reload)
        self.assertEqual((reloading.revision, reloading.last_ok, reloading.last_at), (1, True, 0.0))
        self.assertEqual(gateway.service.config.relay.max_fe, 50)

    @filed()
    def test_bad_files(self, gateway: Filed) -> None:
        """Whatever is wrong with a file, the gateway goes on with what it has."""
        client = gateway.fe()
        for break_it in (
            gateway.config.unlink, lambda: gateway.config.write_bytes(b"\x00\xff"),
            lambda: gateway.config.write_text("relay: {max_fe: 1}\nrelay: {}"),
            lambda: gateway.secrets.write_text("{"), gateway.secrets.unlink,
        ):  # fmt: skip
            gateway.write()
            break_it()
            self.assertRaises(ConfigError, in_the_reactor, gateway.service.reload)
            client.ping()
        gateway.reload()

    @live()
    def test_without_files(self, gateway: Any) -> None:
        """A gateway that was made without files takes what it is given, and nothing else."""
        service = gateway.service
        self.assertRaises(ConfigError, in_the_reactor, service.reload)
        impact = in_the_reactor(service.reload, service.config, service.secrets)
        self.assertEqual((impact.revision, impact.changes), (2, ()))


class Stopping(TestCase):
    """A stop that was asked for (section 9)."""

    @filed(data={"drain_timeout": NEVER})
    def test_progress(self, gateway: Filed) -> None:
        """How many sessions are left; what ends the process is called once; no reload any more."""
        ends: list[bool] = []
        gateway.service.when_drained_on_demand = lambda: ends.append(True)
        gateway.fe(), gateway.be()
        (fe, be), other = gateway.pair(gateway.zmq[0]), gateway.pair(gateway.zmq[1])
        before = gateway.service.draining
        self.assertEqual((before.draining, before.sessions, before.until), (False, 2, 0.0))
        told = in_the_reactor(gateway.service.drain)
        self.assertEqual((told.draining, told.sessions), (True, 2))
        self.assertGreater(told.until, time.time() + NEVER / 2)
        planned = in_the_reactor(gateway.service.plan_reload)
        self.assertIn("is stopping", str(planned.faults[0]))
        self.assertRaises(ConfigError, in_the_reactor, gateway.service.reload)
        fe.send(b"still")
        self.assertEqual(be.receive(5), b"still")
        fe.close(), be.close()
        deadline = time.monotonic() + DEADLINE
        while in_the_reactor(gateway.service.drain).sessions == 2:
            self.assertLess(time.monotonic(), deadline)
        self.assertEqual(ends, [True])
        in_the_reactor(gateway.service.end_sessions)
        for link in other:
            self.assertRaises(WasResetError, link.fill)
        gateway.stop()  # has begun; its end is waited for

    @filed()
    def test_reload_before_its_start_or_after_its_end(self, gateway: Filed) -> None:
        in_the_reactor(gateway.service.stopService)
        self.assertRaises(ConfigError, in_the_reactor, gateway.service.reload)
        self.assertFalse(gateway.service.reloading.last_ok)
