"""What the admin HTTP says of requests that are wrong, on real sockets."""

from __future__ import annotations

import json
import socket

from twisted.trial.unittest import TestCase

from tests.admin_peer import (
    HTTP,
    TOKEN,
    UNANSWERED,
    change,
    get,
    http_address,
    on_one_connection,
)
from tests.guide_peer import DEADLINE
from tests.live import Gateway, live


class Errors(TestCase):
    """What is wrong is said in JSON, with the right status."""

    @live(http=HTTP)
    def test_wrong_requests(self, gateway: Gateway) -> None:
        for method, path, status, code in (
            ("GET", "/nothing", 404, "NOT_FOUND"),
            ("GET", "/api/v1/status/", 404, "NOT_FOUND"),
            ("GET", "/api/v1/%FF", 404, "NOT_FOUND"),
            ("DELETE", "/api/v1/sessions/", 404, "NOT_FOUND"),
            ("POST", "/api/v1/status", 405, "METHOD_NOT_ALLOWED"),
            ("OPTIONS", "/api/v1/status", 405, "METHOD_NOT_ALLOWED"),
            ("BREW", "/healthz", 405, "METHOD_NOT_ALLOWED"),
            ("GET", "/api/v1/ports?limit=0", 400, "QUERY_INVALID"),
            ("GET", "/api/v1/ports?limit=1001", 400, "QUERY_INVALID"),
            ("GET", "/api/v1/ports?offset=-1", 400, "QUERY_INVALID"),
            ("GET", "/api/v1/ports?limit=ten", 400, "QUERY_INVALID"),
            ("GET", "/api/v1/ports?limit=1&limit=2", 400, "QUERY_INVALID"),
            ("GET", "/api/v1/ports?state=full", 400, "QUERY_INVALID"),
            ("GET", "/api/v1/ports?colour=red", 400, "QUERY_INVALID"),
            ("GET", "/api/v1/ports?state", 400, "QUERY_INVALID"),
            ("GET", "/api/v1/ports?service=%FF", 400, "QUERY_INVALID"),
            ("GET", "/api/v1/status?x=1", 400, "QUERY_INVALID"),
            ("GET", "/debug/profile?seconds=0.5", 400, "QUERY_INVALID"),
            ("GET", "/debug/profile?seconds=61", 400, "QUERY_INVALID"),
            ("GET", "/debug/profile?seconds=nan", 400, "QUERY_INVALID"),
            ("GET", "/debug/heap", 404, "HEAP_OFF"),
            ("POST", "/api/v1/reload?dry_run=perhaps", 400, "QUERY_INVALID"),
        ):
            answer = change(gateway, method, path)
            self.assertEqual((answer.status, answer.code), (status, code), (method, path))
            self.assertEqual(answer.headers.get_content_type(), "application/json")
            if status == 405:
                self.assertTrue(answer.headers["Allow"])

    @live(http=HTTP)
    def test_sizes(self, gateway: Gateway) -> None:
        """A body is thrown away, a large one refused; headers have an end."""
        self.assertEqual(get(gateway, "/healthz", body=b"x" * 4096).status, 200)
        answer = get(gateway, "/healthz", body=b"x" * 4097)
        self.assertEqual((answer.status, answer.code), (413, "BODY_TOO_LARGE"))
        with self.assertRaises(UNANSWERED):
            get(gateway, "/healthz", body=b"x" * 20_000_000)
        answer = get(gateway, "/healthz", X_Long="y" * 9000)
        self.assertEqual((answer.status, answer.code), (431, "HEADER_TOO_LARGE"))
        many = {f"X_{number}": "" for number in range(70)}
        self.assertEqual(get(gateway, "/healthz", **many).code, "REQUEST_INVALID")

    @live(http=HTTP, secrets={"admin_token": TOKEN})
    def test_headers_that_are_no_text(self, gateway: Gateway) -> None:
        """Bytes that are no UTF-8 are wrong values, refused as those are."""
        host = ":".join(map(str, http_address(gateway)))
        for name, status, code in (
            ("Host", 421, "HOST_REFUSED"),
            ("Origin", 403, "ORIGIN_REFUSED"),
            ("Sec-Fetch-Site", 403, "ORIGIN_REFUSED"),
            ("Authorization", 401, "TOKEN_REFUSED"),
        ):
            told = {"Host": host, name: "\xff\xfe"}
            answer = get(gateway, "/api/v1/status", **told)
            self.assertEqual((answer.status, answer.code), (status, code), name)

    @live(http=HTTP)
    def test_status_in_words(self, gateway: Gateway) -> None:
        """As RFC 9110 has it, also where Twisted does not know it."""
        with socket.create_connection(http_address(gateway), DEADLINE) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: raw.recv(4096), b""))
        self.assertTrue(answer.startswith(b"HTTP/1.1 421 Misdirected Request\r\n"), answer)

    @live(http=HTTP)
    def test_keeping_alive(self, gateway: Gateway) -> None:
        """Several requests on one connection, errors among them."""
        found = on_one_connection(gateway, "/healthz", "/nothing", "/readyz")
        self.assertEqual(found, ([200, 404, 200], 1))

    @live(http=HTTP)
    def test_malformed(self, gateway: Gateway) -> None:
        """What is no HTTP is answered once, in JSON too, and its connection is closed."""
        many = b"".join(b"X-%d: \r\n" % number for number in range(70))
        for asked in (
            b"\x16\x03\x01 garbage", b"GET /healthz", b"GET /healthz HTTP/1.1\r\nno colon",
            b"GET /healthz HTTP/1.1\r\nContent-Length: x", b"GET / HTTP/1.1\r\nA b: c",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnot-a-length",
            b"GET / HTTP/1.1\r\n" + many,
        ):  # fmt: skip
            with socket.create_connection(http_address(gateway), DEADLINE) as raw:
                raw.sendall(asked + b"\r\n\r\n")
                answer = b"".join(iter(lambda raw=raw: raw.recv(4096), b""))  # type: ignore[misc]
            head, _, body = answer.partition(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 400"), (asked, answer))
            self.assertIn(b"Content-Type: application/json", head)
            self.assertEqual(json.loads(body)["error_code"], "REQUEST_INVALID")
        self.assertEqual(get(gateway, "/healthz").json["status"], "ok")
