"""Who may ask what: tokens, and pages of other sites."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import TestCase

from relayx.admin.access import Access, Asked, Needs
from relayx.admin.errors import Refusal
from relayx.admin.routes import ROUTES
from tests.admin_peer import HTTP, TOKEN, ask, change, get, http_address
from tests.live import Gateway, live

SECRETS = {"admin_token": TOKEN}
OPEN = {"/healthz", "/readyz", "/metrics", "/", "/pprof", "/static/{file}"}


def asked(**told: str | None) -> Asked:
    """A request from curl on the gateway's machine, but for what is told."""
    usual: dict[str, str | None] = dict.fromkeys(Asked.__struct_fields__)
    return Asked(**{**usual, "host": "127.0.0.1:8080", **told})


class Rules(TestCase):
    """The rules themselves."""

    def refused(self, access: Access, needs: Needs, request: Asked) -> tuple[int, str] | None:
        """Status and code, None for one that is let through."""
        try:
            access.check(needs, request)
        except Refusal as refusal:
            return refusal.status, refusal.code
        return None

    def test_hosts(self) -> None:
        """An address, localhost or a name that is configured; any other is DNS rebinding."""
        access = Access(private=True, token="", hosts=("gateway.example",))
        for host in (
            "127.0.0.1", "127.0.0.1:8080", "localhost", "LOCALHOST:1", "localhost.:80", "[::1]:80",
            "10.1.2.3", "gateway.example", "Gateway.Example:8080",
        ):  # fmt: skip
            self.assertIsNone(self.refused(access, Needs.TOKEN, asked(host=host)), host)
        for host in (
            None, "", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example",
            "evil.example,127.0.0.1", "127.0.0.1,evil.example", "user@localhost", "localhost/x",
            "[::1", "localhost:x", "2130706433",
        ):  # fmt: skip
            found = self.refused(access, Needs.TOKEN, asked(host=host))
            self.assertEqual(found, (421, "HOST_REFUSED"), host)
            self.assertIsNone(self.refused(access, Needs.NOTHING, asked(host=host)))
            told = self.refused(access, Needs.NOTHING_BEYOND, asked(host=host))
            self.assertEqual(told, (421, "HOST_REFUSED"), host)

    def test_metrics_beyond_loopback(self) -> None:
        """Answer to any name, for whoever scrapes has one of its own for the gateway."""
        access = Access(private=False, token=TOKEN)
        told = asked(host="gateway:8080")
        self.assertIsNone(self.refused(access, Needs.NOTHING_BEYOND, told))

    def test_origins(self) -> None:
        """Only the page that the gateway itself gave."""
        access = Access(private=True, token="")
        for host, origin in (
            ("localhost:8080", "http://localhost:8080"), ("localhost", "http://localhost"),
            ("localhost:80", "http://localhost"), ("localhost", "https://localhost:443"),
            ("[::1]:8080", "http://[::1]:8080"),
        ):  # fmt: skip
            told = asked(host=host, origin=origin)
            self.assertIsNone(self.refused(access, Needs.TOKEN, told), (host, origin))
        for origin in (
            "null", "http://evil.example", "http://127.0.0.1:8081", "http://localhost:8080", "x",
            "file://", "http://127.0.0.1:8080.evil.example", "http://127.0.0.1:x",
        ):  # fmt: skip
            for needs in (Needs.TOKEN, Needs.PAGE, Needs.CHANGE):
                told = asked(origin=origin, mark="1")
                self.assertEqual(self.refused(access, needs, told), (403, "ORIGIN_REFUSED"), origin)

    def test_what_browsers_tell(self) -> None:
        """A picture or a script of another site is refused; a link to a page is not."""
        access = Access(private=True, token="")
        for site in ("cross-site", "same-site"):
            for needs, mode in itertools.product(Needs, ("no-cors", "navigate")):
                told = asked(fetch_site=site, fetch_mode=mode, mark="1")
                lets = needs is Needs.NOTHING or (needs is Needs.PAGE and mode == "navigate")
                self.assertEqual(self.refused(access, needs, told) is None, lets, (needs, mode))
        for site in ("same-origin", "none"):
            self.assertIsNone(self.refused(access, Needs.TOKEN, asked(fetch_site=site)))

    def test_token(self) -> None:
        """Needed where there is one; beyond loopback nothing goes without."""
        for private in (True, False):
            access = Access(private=private, token=TOKEN)
            for given in (
                None, "", "Bearer", "Bearer ", "Bearer x", TOKEN, f"Basic {TOKEN}",
                f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}, Bearer {TOKEN}",
                "Bearer é",
            ):  # fmt: skip
                found = self.refused(access, Needs.TOKEN, asked(authorization=given))
                self.assertEqual(found, (401, "TOKEN_REFUSED"), given)
            for given in (f"Bearer {TOKEN}", f"bearer  {TOKEN} "):
                self.assertIsNone(self.refused(access, Needs.CHANGE, asked(authorization=given)))
            self.assertIsNone(self.refused(access, Needs.PAGE, asked()))
        without = Access(private=False, token="")
        for given in (None, "Bearer ", "Bearer x"):
            found = self.refused(without, Needs.TOKEN, asked(authorization=given))
            self.assertEqual(found, (403, "TOKEN_NOT_SET"))

    def test_changes_need_a_header(self) -> None:
        """One that a form cannot send, also where the token is right."""
        access = Access(private=True, token="")
        self.assertEqual(self.refused(access, Needs.CHANGE, asked()), (403, "HEADER_REQUIRED"))
        self.assertIsNone(self.refused(access, Needs.CHANGE, asked(mark="")))
        self.assertIsNone(self.refused(access, Needs.CHANGE, asked(authorization="Bearer x")))


class Served(TestCase):
    """The same on real sockets."""

    @live(http=HTTP, secrets=SECRETS)
    def test_every_route_with_a_token(self, gateway: Gateway) -> None:
        """All but those that are open refuse who has none."""
        for route in ROUTES:
            path = route.path.replace("{file}", "icon.svg").replace("{client_id}", "x")
            answer = change(gateway, route.method, path.replace("{pairing_id}", "x"))
            if route.path in OPEN:
                self.assertIn(answer.status, (200, 204), route.path)
            else:
                self.assertEqual((answer.status, answer.code), (401, "TOKEN_REFUSED"), route.path)
                self.assertIn("Bearer", answer.headers["WWW-Authenticate"])
        self.assertEqual(get(gateway, "/api/v1/status", token=TOKEN).status, 200)
        self.assertEqual(ask(gateway, "POST", "/api/v1/drain", token=TOKEN).status, 202)
        gateway.stop()

    @live(http=HTTP)
    def test_every_change_without_the_header(self, gateway: Gateway) -> None:
        """On loopback without a token, and whatever a form can send."""
        for route in ROUTES:
            if route.needs is not Needs.CHANGE:
                continue
            form = {"Content_Type": "application/x-www-form-urlencoded"}
            path = route.path.replace("{client_id}", "x").replace("{pairing_id}", "x")
            answer = ask(gateway, route.method, path, body=b"a=1", **form)
            self.assertEqual((answer.status, answer.code), (403, "HEADER_REQUIRED"))
        self.assertTrue(get(gateway, "/readyz").json["ready"])

    @live(http=HTTP)
    def test_rebinding(self, gateway: Gateway) -> None:
        """A page under a name of its own that leads here reads nothing and changes nothing."""
        port = http_address(gateway)[1]
        host = f"evil.example:{port}"
        told = {"Host": host, "Origin": f"http://{host}", "Sec_Fetch_Site": "same-origin"}
        for route in ROUTES:
            path = route.path.replace("{client_id}", "x").replace("{pairing_id}", "x")
            answer = change(gateway, route.method, path.replace("{file}", "icon.svg"), **told)
            if route.needs is Needs.NOTHING:
                self.assertEqual(answer.status, 200)
            else:
                self.assertEqual((answer.status, answer.code), (421, "HOST_REFUSED"), route.path)

    @live(http={"endpoint": "tcp:0:interface=0.0.0.0"})
    def test_beyond_loopback_without_a_token(self, gateway: Gateway) -> None:
        """Only health, readiness and metrics; the gateway says what is missing."""
        for path in ("/healthz", "/readyz", "/metrics"):
            self.assertEqual(get(gateway, path, Host="gateway").status, 200, path)
        answer = get(gateway, "/api/v1/status")
        self.assertEqual((answer.status, answer.code), (403, "TOKEN_NOT_SET"))

    @live(http=HTTP, secrets=SECRETS)
    def test_denials_are_told(self, gateway: Gateway) -> None:
        """Some of them, never with the token that was tried."""
        for _ in range(50):
            get(gateway, "/api/v1/status", token="tried-this")
        told = get(gateway, "/api/v1/status", token=TOKEN).json
        self.assertEqual(told["state"], "ready")
        admin = gateway.service.admin
        assert admin is not None
        texts = [event.text for event in admin.recent_events() if event.event == "admin_denied"]
        self.assertTrue(0 < len(texts) <= 20, texts)
        self.assertNotIn("tried-this", "".join(texts))
        self.assertIn("127.0.0.1", texts[0])
