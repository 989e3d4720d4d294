"""Each metric moves when what it counts happens: a gateway on real sockets."""

from __future__ import annotations

import os
import ssl
import time

import msgspec
from twisted.trial.unittest import TestCase

from relayx.config.faults import ConfigError
from relayx.repeats import FIRST
from relayx.security.keyring import add_key
from relayx.security.keys import KeyType
from relayx.security.policy import Signing
from tests.data_certificates import data_tls
from tests.guide_peer import Control, EndedError, WasResetError, message
from tests.live import SECRET, Gateway, Peers, live, random_host, service_for
from tests.scrapes import scrape, scrape_of, scrape_until
from tests.test_loopback_control_lease import time_passes
from tests.test_loopback_data_regressions import OPEN, ask

TLS = data_tls()
SHORT = {"data": OPEN, "relay": {"reaper_timeout": 0.0}}


class Sessions(TestCase):
    """Connections, sessions, and the bytes in them."""

    @live(data=OPEN)
    def test_from_hello_to_end(self, gateway: Gateway) -> None:
        be = gateway.waiting(gateway.zmq[0])
        found = scrape_until(gateway, 1, "relay_port_state", protocol="zmq", state="ready")
        self.assertEqual(found.of("relay_port_state", protocol="zmq", state="empty"), 2)
        self.assertEqual(found.of("zmq_conn_total", role="BE"), 1)
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        found = scrape_of(gateway)
        self.assertEqual(found.of("zmq_conn_total", role="FE"), 1)
        self.assertEqual(found.of("srt_conn_total", role="FE"), 0)
        self.assertEqual(found.of("relay_port_state", protocol="zmq", state="busy"), 1)
        self.assertEqual(found.of("relayx_sessions", protocol="zmq"), 1)
        self.assertEqual(found.of("relayx_connections", plane="data"), 2)
        self.assertEqual(found.of("relayx_pairing_latency_seconds_count", protocol="zmq"), 1)
        self.assertEqual(found["relayx_lease_wait_seconds_count"], 0)
        fe.send(b"x" * 5000)
        be.receive(5000)
        be.send(b"y" * 70)
        fe.receive(70)
        moved = {"direction": "fe_to_be", "protocol": "zmq"}
        found = scrape_until(gateway, 5000, "relay_pipe_bytes_total", **moved)
        fe.shutdown()
        be.rest()
        be.close()
        fe.rest()
        ended = {"protocol": "zmq", "cause": "fe_closed"}
        found = scrape_until(gateway, 1, "relayx_sessions_ended_total", **ended)
        self.assertEqual(found.of("relay_pipe_bytes_total", **moved), 5000)
        moved["direction"] = "be_to_fe"
        self.assertEqual(found.of("relay_pipe_bytes_total", **moved), 70)
        self.assertEqual(found.of("relayx_session_duration_seconds_count", protocol="zmq"), 1)
        self.assertEqual(found.of("relayx_sessions", protocol="zmq"), 0)
        self.assertEqual(found.of("relayx_sessions_ended_total", protocol="srt", cause="drain"), 0)

    @live(data=OPEN)
    def test_stalls_and_buffers(self, gateway: Gateway) -> None:
        be = gateway.dial11(gateway.srt[0], receive_buffer=8192)
        be.hello("BE")
        be.expect("RLX1OK")
        fe = gateway.entering(gateway.srt[0])
        fe.expect("RLX1PAIRED")
        sending = gateway.background(fe.send, bytes(16 << 20))
        side = {"protocol": "srt", "side": "BE"}
        found = scrape_until(gateway, 0.1, "relayx_session_stall_seconds_total", **side)
        held = sum(
            found.of("relayx_session_buffer_bytes", kind=kind) for kind in ("memory", "pipe")
        )
        self.assertGreater(held, 0)
        self.assertEqual(
            found.of("relayx_session_stall_seconds_total", protocol="srt", side="FE"), 0
        )
        gateway.background(be.rest)
        sending.result()

    @live(clients=[{"match": "slow", "bandwidth": 80_000}], zmq=1)
    def test_throttled(self, gateway: Gateway) -> None:
        gateway.be("b"), gateway.fe("slow")
        be = gateway.waiting(gateway.zmq[0], "b")
        fe = gateway.entering(gateway.zmq[0], "slow")
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        fe.send(bytes(3000))
        be.receive(3000)
        side = {"protocol": "zmq", "side": "FE"}
        scrape_until(gateway, 0.1, "relayx_session_throttled_seconds_total", **side)

    @live(data=OPEN, zmq=1)
    def test_early_bytes(self, gateway: Gateway) -> None:
        be = gateway.waiting(gateway.zmq[0])
        be.send(b"early" * 100)
        scrape_until(gateway, 500, "relayx_session_buffer_bytes", kind="early")


class Leases(TestCase):
    """Grants, waits and ends."""

    @live(zmq=1, srt=0)
    def test_granted_used_and_ended(self, gateway: Gateway) -> None:
        client = gateway.fe11("f")
        gateway.be11("b")
        be = gateway.waiting(gateway.zmq[0], "b")
        client.state(lambda state: state["zmq_ready_ports"] == gateway.zmq)
        lease = client.acquire()
        found = scrape_of(gateway)
        self.assertEqual(found.of("relayx_leases_granted_total", role="FE"), 1)
        self.assertEqual(found.of("relayx_leases", role="FE"), 1)
        self.assertEqual(found.of("relay_port_state", protocol="zmq", state="reserved"), 1)
        client.acquire()
        found = scrape_of(gateway)
        refused = {"stage": "lease", "code": "PORT_EXHAUSTED"}
        self.assertEqual(found.of("relayx_refusals_total", **refused), 1)
        fe = gateway.entering(gateway.zmq[0], session_id=lease["session_id"])
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        self.assertEqual(scrape_of(gateway)["relayx_lease_wait_seconds_count"], 1)
        client.say("port_release", {"session_id": lease["session_id"]})
        client.ping()
        found = scrape_of(gateway)
        self.assertEqual(found.of("relayx_leases_ended_total", reason="released"), 1)
        self.assertEqual(found.of("relayx_leases", role="FE"), 0)

    @live(zmq=2, srt=0)
    def test_expired(self, gateway: Gateway) -> None:
        be = gateway.be11("b")
        lease = be.acquire()
        self.assertEqual(scrape_of(gateway).of("relayx_leases", role="BE"), 1)
        time_passes(gateway, 31)
        be.expect("port_release", session_id=lease["session_id"], error_code="TTL_EXPIRED")
        found = scrape_of(gateway)
        self.assertEqual(found.of("relayx_leases_ended_total", reason="TTL_EXPIRED"), 1)


class Clients(TestCase):
    """The control plane."""

    @live(relay={"max_fe": 1})
    def test_registered(self, gateway: Gateway) -> None:
        gateway.fe("one"), gateway.be()
        found = scrape_of(gateway)
        for role in ("FE", "BE"):
            self.assertEqual(found.of("relayx_control_clients", role=role), 1)
            self.assertEqual(found.of("relayx_registrations_total", role=role), 1)
        self.assertEqual(found.of("relayx_control_clients_limit", role="FE"), 1)
        self.assertEqual(found.of("relayx_connections", plane="control"), 2)
        full = gateway.control()
        self.assertEqual(full.register("FE", SECRET)["error_code"], "CAPACITY")
        wrong = gateway.control()
        wrong.register("BE", "wrong")
        silent = gateway.control()
        silent.say("ping", {"c_send": 1})
        silent.rest()
        found = scrape_of(gateway)
        for code in ("CAPACITY", "AUTH_FAILED", "REGISTER_REQUIRED"):
            self.assertEqual(found.of("relayx_refusals_total", stage="register", code=code), 1)

    @live()
    def test_messages(self, gateway: Gateway) -> None:
        fe = gateway.fe()
        before = scrape_of(gateway)
        for kind in ("made-up-1", "made-up-2", "telemetry", 'quote"\n'):
            fe.send(message(kind, {}))
            fe.expect("error")
        fe.ping()
        fe.state()
        gateway.be()
        gateway.be().say("port_alloc", {})
        fe.expect("port_alloc")
        found = scrape_of(gateway)

        def more(**labels: str) -> float:
            name = "relayx_control_messages_total"
            return found.of(name, **labels) - before.of(name, **labels)

        self.assertEqual(more(direction="received", type="unknown"), 4)
        self.assertEqual(more(direction="received", type="ping"), 1)
        self.assertEqual(more(direction="received", type="port_state_q"), 1)
        self.assertEqual(more(direction="received", type="register"), 2)
        self.assertEqual(more(direction="sent", type="error"), 4)
        self.assertEqual(more(direction="sent", type="pong"), 1)
        self.assertEqual(more(direction="sent", type="auth"), 2)
        self.assertEqual(more(direction="sent", type="port_alloc"), 1)
        self.assertEqual(found.of("relayx_message_errors_total", code="INVALID_MESSAGE"), 4)
        scrape_until(
            gateway, 2, "relayx_control_messages_total", direction="sent", type="telemetry"
        )

    @live(limits={"messages_per_second": 5})
    def test_too_many_messages(self, gateway: Gateway) -> None:
        fe = gateway.fe()
        fe.send(message("ping", {"c_send": 1}) * 20)  # at once, so that no time passes
        fe.expect("error", error_code="RATE_LIMITED")
        found = scrape_until(gateway, 1, "relayx_messages_rate_limited_total")
        self.assertGreaterEqual(found.of("relayx_message_errors_total", code="RATE_LIMITED"), 1)

    @live(limits={"control_per_source": 1})
    def test_turned_away(self, gateway: Gateway) -> None:
        gateway.fe()
        for _ in range(3):  # more than what is said in the log
            with self.assertRaises((EndedError, WasResetError, ConnectionResetError)):
                gateway.control().fill()
        scrape_until(gateway, 3, "relayx_control_turned_away_total")

    @live(**SHORT)
    def test_taken_over_lost_and_dropped(self, gateway: Gateway) -> None:
        first = gateway.be11("b")
        gateway.be11("b").close()
        first.rest()
        found = scrape_until(gateway, 1, "relayx_backends_reaped_total")
        self.assertEqual(found.of("relayx_takeovers_total", role="BE"), 1)
        self.assertEqual(found["relayx_control_dropped_total"], 0)
        broken = gateway.control()
        broken.send(b"]")
        broken.rest()
        self.assertEqual(scrape_of(gateway)["relayx_control_dropped_total"], 1)

    @live(data=OPEN)
    def test_refused_data(self, gateway: Gateway) -> None:
        gateway.entering(gateway.zmq[0]).refusal()
        garbage = gateway.dial(gateway.srt[0])
        garbage.send(b"GET / HTTP/1.1\r\n\r\n")
        garbage.rest()
        found = scrape_of(gateway)
        for code in ("PORT_EMPTY", "HELLO_INVALID"):
            self.assertEqual(found.of("relayx_refusals_total", stage="data", code=code), 1)
        self.assertEqual(found.of("srt_conn_total", role="FE"), 0)

    @live(data=OPEN)
    def test_draining(self, gateway: Gateway) -> None:
        fe, be = gateway.pair(gateway.zmq[0])
        self.assertEqual(scrape_of(gateway)["relayx_draining"], 0)
        stopping = gateway.stop()
        scrape_until(gateway, 1, "relayx_draining")
        for link in (fe, be):
            link.close()
        stopping.result()
        found = scrape_of(gateway)  # what was counted stays
        self.assertEqual(found.of("zmq_conn_total", role="FE"), 1)


class Security(TestCase):
    """Secrets, keys and TLS."""

    @live(secrets={"auth_secret_previous": "the-secret-before-this-one-which-is-long"})
    def test_secrets_and_keys(self, gateway: Gateway) -> None:
        old = gateway.control()
        old.register("FE", "the-secret-before-this-one-which-is-long")
        gateway.be().say("key_exchange", {"public_key": "P", "private_key": "S"})
        old.expect("key_exchange")
        found = scrape_of(gateway)
        self.assertEqual(found["relayx_previous_secret_used_total"], 1)
        self.assertEqual(found["relayx_private_keys_dropped_total"], 1)

    @live(limits={"failures_per_minute": 2})
    def test_blocked(self, gateway: Gateway) -> None:
        for _ in range(3):
            gateway.control().register("FE", "wrong")
        found = scrape_of(gateway)
        self.assertEqual(found["relayx_blocked_sources"], 1)
        self.assertEqual(found["relayx_sources_blocked_total"], 1)
        refused = {"stage": "register", "code": "RATE_LIMITED"}
        self.assertEqual(found.of("relayx_refusals_total", **refused), 1)

    async def test_keys(self) -> None:
        directory = self.mktemp()
        os.mkdir(directory)
        add_key(directory, KeyType.P256, 30, time.time(), "autumn")
        security = {"signing": Signing.ACCEPT, "keys": directory}
        service = service_for(Peers(random_host(), 1, 0), {"security": security})
        service.privilegedStartService()
        service.startService()
        try:
            found = scrape(service.metrics)
            days = found.of("relayx_key_expiry_days", use="sign", kid="autumn")
            self.assertApproximates(days, 30, 0.01)
        finally:
            await service.stopService()

    @live(data={**OPEN, "tls": TLS})
    def test_tls_of_data_ports(self, gateway: Gateway) -> None:
        garbage = gateway.dial(gateway.zmq[0])
        garbage.send(b"\x16\x03\x01\x00\x05hello")
        garbage.rest()
        scrape_until(gateway, 1, "relayx_tls_failures_total", plane="data")

    @live(
        control={
            "endpoints": [
                f"ssl:5556:interface={{host}}:certKey={TLS.certificate}:privateKey={TLS.private_key}"
            ]
        }
    )
    def test_tls_of_control_ports(self, gateway: Gateway) -> None:
        client = Control((gateway.host, 5556))
        context = ssl.create_default_context()  # which does not know who signed it
        with self.assertRaises(ssl.SSLError):
            context.wrap_socket(client.socket, server_hostname="gateway.example")
        scrape_until(gateway, 1, "relayx_tls_failures_total", plane="control")


class Files(TestCase):
    """What is written, and what is read again."""

    @live(audit={"file": "/dev/full"})
    def test_audit(self, gateway: Gateway) -> None:
        gateway.fe()
        scrape_until(gateway, 1, "relayx_audit_lines_lost_total")

    @live(log={"stream": "all"})
    def test_log_lines(self, gateway: Gateway) -> None:
        stream = gateway.service.log_streaming.stream
        assert stream is not None

        def many() -> None:
            for number in range(2000):
                stream({"log_format": f"line {number}", "log_namespace": "relayx"})

        ask(many)
        scrape_until(gateway, 900, "relayx_log_lines_dropped_total", where="stream")

    @live(log={"stream": "all"})
    def test_repeated_lines(self, gateway: Gateway) -> None:
        """What is left out of the log because it repeats is counted."""
        gateway.fe()
        for _ in range(FIRST + 5):
            self.assertEqual(gateway.control().register("FE", "wrong")["status"], "error")
        scrape_until(gateway, 5, "relayx_log_lines_dropped_total", where="repeated")

    @live()
    def test_reloads(self, gateway: Gateway) -> None:
        service = gateway.service
        found = scrape_of(gateway)
        began = found["relayx_config_last_reload_success_timestamp_seconds"]
        self.assertEqual(found["relayx_config_revision"], 1)
        self.assertEqual(found["relayx_config_last_reload_successful"], 1)
        other = msgspec.structs.replace(
            service.config, http=msgspec.structs.replace(service.config.http, endpoint="tcp:1")
        )
        self.assertRaises(ConfigError, ask, lambda: service.reload(other, service.secrets))
        found = scrape_of(gateway)
        self.assertEqual(found["relayx_config_last_reload_successful"], 0)
        self.assertEqual(found["relayx_config_last_reload_success_timestamp_seconds"], began)
        ask(lambda: service.reload(service.config, service.secrets))
        found = scrape_of(gateway)
        self.assertEqual(found["relayx_config_revision"], 2)
        self.assertEqual(found["relayx_config_last_reload_successful"], 1)
        self.assertGreater(found["relayx_config_last_reload_success_timestamp_seconds"], began)
        for result in ("success", "failure"):
            self.assertEqual(found.of("relayx_config_reloads_total", result=result), 1)

    @live()
    def test_lag(self, gateway: Gateway) -> None:
        scrape_until(gateway, 2, "relayx_reactor_lag_seconds_count")
