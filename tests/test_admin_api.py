"""The admin API on real sockets: each route."""

from __future__ import annotations

import socket
from typing import Any

import msgspec
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent

from relayx.admin import model
from relayx.admin.routes import ROUTES
from tests.admin_peer import (
    HTTP,
    TOKEN,
    Asking,
    answer_to,
    change,
    get,
    http_address,
    until,
)
from tests.guide_peer import DEADLINE, EndedError, WasResetError
from tests.live import Gateway, Peers, live, random_host, service_for
from tests.reloading import Filed, filed

try:
    from openapi_spec_validator import validate
except ImportError:
    validate = None  # type: ignore[assignment]

SPLIT = {"be_on_fe_close": "close"}


class Reading(TestCase):
    """What is told of the gateway."""

    @live(http=HTTP)
    def test_health(self, gateway: Gateway) -> None:
        """It answers, and clients are taken."""
        self.assertEqual(get(gateway, "/healthz").json, {"status": "ok"})
        self.assertEqual(get(gateway, "/readyz").json, {"ready": True, "reasons": []})
        head = change(gateway, "HEAD", "/healthz")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(head.headers["Content-Length"], "15")

    async def test_not_ready_yet(self) -> None:
        """While the gateway starts it listens already, and says that it is not ready."""
        service = service_for(Peers(random_host(), 1, 0), {"http": HTTP})
        client = HTTPClient(Agent(reactor))
        service.privilegedStartService()
        try:
            url = f"http://127.0.0.1:{service.http_address.port}/readyz"
            starting = await answer_to(client, "GET", url)
            service.startService()
            serving = await answer_to(client, "GET", url)
        finally:
            await service.stopService()
        self.assertEqual((starting.status, starting.json["ready"]), (503, False))
        self.assertEqual(starting.json["reasons"], ["the gateway is starting"])
        self.assertEqual((serving.status, serving.json["ready"]), (200, True))

    @live(http=HTTP, zmq=3, srt=2)
    def test_status(self, gateway: Gateway) -> None:
        """Counts of everything, as its type says."""
        gateway.fe("f")
        gateway.be("b")
        gateway.pair(gateway.zmq[0])
        gateway.waiting(gateway.srt[1])
        status = msgspec.json.decode(get(gateway, "/api/v1/status").body, type=model.Status)
        self.assertEqual(status.state, model.GatewayState.READY)
        zmq, srt = (status.ports[protocol] for protocol in ("zmq", "srt"))  # type: ignore[index]
        self.assertEqual((zmq.total, zmq.busy, zmq.empty, zmq.ready), (3, 1, 2, 0))
        self.assertEqual((srt.total, srt.busy, srt.empty, srt.ready), (2, 0, 1, 1))
        self.assertEqual(status.sessions.running, 1)
        self.assertEqual([c.registered for c in status.clients.values()], [1, 1])
        self.assertIsNotNone(status.started_at)

    @live(http=HTTP)
    def test_clients(self, gateway: Gateway) -> None:
        """Who is there; a BE that is lost too."""
        gateway.fe11("viewer")
        gateway.be("camera").close()
        gateway.be("camera-2")
        lost = until(lambda: self.items(gateway, "clients?state=lost"))
        self.assertEqual([c["client_id"] for c in lost], ["camera"])
        everybody = self.items(gateway, "clients")
        self.assertEqual(
            [(c["role"], c["client_id"], c["protocol"]) for c in everybody],
            [("BE", "camera", "1.0"), ("BE", "camera-2", "1.0"), ("FE", "viewer", "1.1")],
        )
        self.assertEqual(len(self.items(gateway, "clients?role=FE")), 1)
        self.assertEqual(len(self.items(gateway, "clients?client_id=camera-2")), 1)
        self.assertEqual(self.items(gateway, "clients?address=10.0.0.1"), [])
        self.assertNotIn(b"instance", get(gateway, "/api/v1/clients").body)

    @live(http=HTTP, zmq=3, srt=2)
    def test_ports_and_leases(self, gateway: Gateway) -> None:
        """Who is on a port, and for whom it is kept; no ticket is told."""
        fe, _ = gateway.fe11("viewer"), gateway.be("camera")
        gateway.waiting(gateway.zmq[1], "camera", service="cam")
        grant = fe.acquire(need_zmq=True, service="cam", ttl_seconds=60)
        self.assertTrue(grant["ticket"])
        port = self.items(gateway, "ports?state=reserved")[0]
        self.assertEqual(port["port"], gateway.zmq[1])
        self.assertEqual((port["service"], port["client_id"]), ("cam", "camera"))
        self.assertEqual(port["session_id"], grant["session_id"])
        self.assertEqual((port["transport"], port["sessions"]), ("tcp", 0))
        lease = self.items(gateway, "leases?protocol=zmq&role=FE&client_id=viewer&service=cam")[0]
        self.assertEqual((lease["ports"], lease["role"]), ([gateway.zmq[1]], "FE"))
        self.assertEqual(self.items(gateway, "leases?protocol=srt"), [])
        self.assertEqual(len(self.items(gateway, "ports?protocol=srt&state=empty")), 2)
        self.assertEqual(len(self.items(gateway, "ports?service=cam&client_id=camera")), 1)
        for path in ("ports", "leases", "clients", "sessions", "status"):
            self.assertNotIn(grant["ticket"].encode(), get(gateway, f"/api/v1/{path}").body)

    @live(http=HTTP, data=SPLIT)
    def test_sessions(self, gateway: Gateway) -> None:
        """Bytes by direction, who has them, and who is slow."""
        gateway.fe("viewer"), gateway.be("camera")
        fe, be = gateway.pair(gateway.zmq[0])
        fe.send(b"x" * 3000)
        be.receive(3000)
        be.send(b"y" * 70)
        fe.receive(70)

        def delivered() -> Any:
            found = self.items(gateway, "sessions")
            moved = [(s["fe_to_be_bytes"], s["be_to_fe_bytes"]) for s in found]
            return found[0] if moved == [(3000, 70)] else None

        session = until(delivered)
        self.assertEqual((session["state"], session["cause"]), ("running", ""))
        self.assertEqual((session["be"]["client_id"], session["port"]), ("camera", gateway.zmq[0]))
        self.assertEqual([session[end]["transport"] for end in ("fe", "be")], ["tcp", "tcp"])
        (port,) = self.items(gateway, "ports?state=busy")
        self.assertEqual((port["pairing_id"], port["sessions"]), (session["pairing_id"], 1))
        for query, count in (
            ("protocol=zmq", 1), ("protocol=srt", 0), ("client_id=camera", 1),
            ("client_id=nobody", 0), ("state=running", 1), ("state=ending", 0),
            (f"port={gateway.zmq[0]}", 1), ("port=1", 0), ("service=", 1), ("service=x", 0),
            ("session_id=x", 0),
        ):  # fmt: skip
            self.assertEqual(len(self.items(gateway, f"sessions?{query}")), count, query)
        fe.socket.setblocking(False)
        with self.assertRaises(BlockingIOError):
            while True:
                fe.socket.send(b"z" * 65536)
        until(lambda: self.items(gateway, "sessions")[0]["fe"]["pushed_back"])
        fe.socket.setblocking(True)
        fe.shutdown()

    @live(http=HTTP, clients=[{"match": "slow", "bandwidth": 80_000}], zmq=1)
    def test_session_at_its_limit(self, gateway: Gateway) -> None:
        """Nobody is slow where a limit holds a side back."""
        gateway.fe("slow"), gateway.be("camera")
        gateway.waiting(gateway.zmq[0], "camera")
        fe = gateway.entering(gateway.zmq[0], "slow")
        fe.expect("RLX1PAIRED")
        fe.send(bytes(30_000))
        end = until(lambda: self.held_back(gateway))
        self.assertEqual((end["pushed_back"], end["stalled"]), (False, 0))

    def held_back(self, gateway: Gateway) -> Any:
        end = self.items(gateway, "sessions")[0]["fe"]
        return end if end["held_back"] else None

    @live(http=HTTP, zmq=30, srt=30)
    def test_pages(self, gateway: Gateway) -> None:
        """Every port once, whatever the pages; totals on each."""
        whole = get(gateway, "/api/v1/ports").json
        self.assertEqual((whole["total"], whole["limit"], whole["offset"]), (60, 100, 0))
        seen = []
        for offset in range(0, 70, 7):
            page = get(gateway, f"/api/v1/ports?limit=7&offset={offset}").json
            self.assertEqual(page["total"], 60)
            seen += page["items"]
        self.assertEqual(seen, whole["items"])

    @live(http=HTTP)
    def test_openapi(self, gateway: Gateway) -> None:
        """It is valid, and has each route with what it answers."""
        document = get(gateway, "/api/v1/openapi.json").json
        told = {(path, method) for path, found in document["paths"].items() for method in found}
        self.assertEqual(told, {(route.path, route.method.lower()) for route in ROUTES})
        sessions = document["paths"]["/api/v1/sessions"]["get"]
        self.assertIn("client_id", [parameter["name"] for parameter in sessions["parameters"]])
        if validate is None:
            self.skipTest("openapi-spec-validator is not installed")
        validate(document)

    @live(http=HTTP)
    def test_pages_of_the_operator(self, gateway: Gateway) -> None:
        """HTML that loads nothing from elsewhere, and says so."""
        for path in ("/", "/pprof"):
            page = get(gateway, path)
            self.assertEqual(page.headers.get_content_type(), "text/html")
            self.assertIn("default-src 'none'", page.headers["Content-Security-Policy"])
        for file in ("dashboard.js", "dashboard.css", "icon.svg"):
            self.assertEqual(get(gateway, f"/static/{file}").status, 200)
            self.assertIn(file.encode(), get(gateway, "/").body)
        self.assertEqual(get(gateway, "/static/..%2Fmodel.py").code, "NOT_FOUND")

    def items(self, gateway: Gateway, path: str) -> list[dict[str, Any]]:
        """Of a page."""
        found = get(gateway, f"/api/v1/{path}")
        self.assertEqual(found.status, 200, found.body)
        items: list[dict[str, Any]] = found.json["items"]
        return items


class Doing(TestCase):
    """What is done to the gateway."""

    @live(http=HTTP, data=SPLIT)
    def test_closing_a_session(self, gateway: Gateway) -> None:
        """Both ends are told the cause; the second time there is no such session."""
        client, service = gateway.fe11("viewer"), gateway.be11("camera")
        fe, be = gateway.pair(gateway.zmq[0], client_id="viewer")
        pairing_id = get(gateway, "/api/v1/sessions").json["items"][0]["pairing_id"]
        done = change(gateway, "DELETE", f"/api/v1/sessions/{pairing_id}")
        self.assertEqual((done.status, done.json), (200, {"pairing_id": pairing_id}))
        self.assertEqual(client.expect("session_end")["cause"], "admin")
        self.assertEqual(service.expect("session_end")["cause"], "admin")
        self.assertEqual((fe.rest()[1], be.rest()[1]), ("reset", "reset"))
        again = change(gateway, "DELETE", f"/api/v1/sessions/{pairing_id}")
        self.assertEqual((again.status, again.code), (404, "NOT_FOUND"))
        self.assertEqual(get(gateway, "/api/v1/status").json["sessions"]["ended"], {"admin": 1})

    @live(http=HTTP)
    def test_dropping_a_client(self, gateway: Gateway) -> None:
        """By an id of any characters, and by role where two have it."""
        name = "a/b c?é"
        fe, be = gateway.fe(name), gateway.be(name)
        path = "/api/v1/clients/a%2Fb%20c%3F%C3%A9"
        done = change(gateway, "DELETE", f"{path}?role=BE")
        self.assertEqual(done.json, {"client_id": name, "dropped": 1})
        with self.assertRaises((EndedError, WasResetError)):
            while True:
                be.read()
        fe.ping()
        self.assertEqual(change(gateway, "DELETE", path).json["dropped"], 1)
        self.assertEqual(change(gateway, "DELETE", path).code, "NOT_FOUND")

    @live(http=HTTP, data={**SPLIT, "drain_timeout": 300.0})
    def test_draining(self, gateway: Gateway) -> None:
        """Not ready any more, for a reason; the running session goes on."""
        gateway.fe("f"), gateway.be("b")
        fe, be = gateway.pair(gateway.zmq[0])
        done = change(gateway, "POST", "/api/v1/drain")
        gateway.stop()
        self.assertEqual((done.status, done.json["sessions"]), (202, 1))
        ready = get(gateway, "/readyz")
        self.assertEqual(ready.status, 503)
        self.assertIn("draining", ready.json["reasons"][0])
        self.assertEqual(get(gateway, "/healthz").status, 200)
        self.assertEqual(get(gateway, "/api/v1/status").json["state"], "draining")
        self.assertEqual(gateway.control().register("FE", "x")["status"], "error")
        fe.send(b"on")
        self.assertEqual(be.receive(2), b"on")

    @live(http=HTTP)
    def test_draining_with_nobody_there(self, gateway: Gateway) -> None:
        """The answer comes before the end, and a stream ends."""
        address = http_address(gateway)
        stream = Asking(gateway, "/api/v1/events")
        stream.begun()
        told = stream.events()
        self.assertEqual(next(told)[0], "history")
        self.assertEqual(change(gateway, "POST", "/api/v1/drain").status, 202)
        gateway.stop().result(DEADLINE)
        self.assertIn("happened", [kind for kind, _ in told])
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(address, DEADLINE)

    @filed(http=HTTP)
    def test_reloading(self, gateway: Filed) -> None:
        """What would change, what has changed, and what is refused."""
        gateway.write(relay={"max_fe": 7}, reload={})
        plan = change(gateway, "POST", "/api/v1/reload?dry_run=1")
        self.assertEqual((plan.status, plan.json["applied"]), (200, False))
        changed = {"key": "relay.max_fe", "old": "50", "new": "7", "applies": "now"}
        self.assertEqual(plan.json["changes"], [changed])
        self.assertEqual(get(gateway, "/api/v1/status").json["clients"]["FE"]["most"], 50)
        done = change(gateway, "POST", "/api/v1/reload").json
        self.assertEqual((done["applied"], done["revision"]), (True, 2))
        status = get(gateway, "/api/v1/status").json
        self.assertEqual((status["revision"], status["clients"]["FE"]["most"]), (2, 7))
        self.assertTrue(status["last_reload"]["successful"])
        gateway.write(relay={"max_fe": 0}, data={"interface": "127.0.0.1"})
        for query in ("", "?dry_run=1"):
            refused = change(gateway, "POST", f"/api/v1/reload{query}")
            self.assertEqual((refused.status, refused.code), (409, "RELOAD_REFUSED"))
            self.assertIn("relay.max_fe", refused.json["problems"][0])
        gateway.write(data={"interface": "127.0.0.1"})
        plan = change(gateway, "POST", "/api/v1/reload?dry_run=1")
        self.assertEqual(plan.status, 200)
        self.assertIn("a restart is needed", plan.json["problems"][0])
        self.assertEqual(get(gateway, "/api/v1/status").json["last_reload"]["successful"], False)
        self.assertTrue(get(gateway, "/readyz").json["ready"])

    @filed(http=HTTP)
    def test_token_and_hosts_change(self, gateway: Filed) -> None:
        """While it runs, from the next request on."""
        token = {"admin_token": TOKEN}
        gateway.write(token, http={**HTTP, "hosts": ["gateway.example"]})
        self.assertEqual(change(gateway, "POST", "/api/v1/reload").status, 200)
        self.assertEqual(get(gateway, "/api/v1/status").status, 401)
        told = get(gateway, "/api/v1/status", token=TOKEN, Host="gateway.example")
        self.assertEqual(told.status, 200)

    @live(http=HTTP)
    def test_what_is_done_is_told(self, gateway: Gateway) -> None:
        """In the log of events, with where it came from."""
        gateway.fe("f")
        change(gateway, "DELETE", "/api/v1/clients/f")
        texts = [event.text for event in gateway.service.admin.recent_events()]  # type: ignore[union-attr]
        self.assertIn("an operator at 127.0.0.1 drops FE f", "\n".join(texts))
