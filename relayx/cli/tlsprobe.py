"""One TLS handshake with the control port, and what it shows."""

from __future__ import annotations

from typing import Any

from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from relayx.cli.diagnosis import StepFailed
from relayx.cli.running import reason
from relayx.client import Gateway, TlsFailed
from relayx.client.gateway import tcp_endpoints
from relayx.client.tls import tls_failure

HANDSHAKE_TIMEOUT = 5.0
SOON = 14
"""Days before the end of a certificate from which on that is said."""


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """:ivar done: fires with this protocol's transport, while it is connected."""

    transport: Any

    def __init__(self) -> None:
        self.done: Deferred[Any] = Deferred()

    def handshakeCompleted(self) -> None:
        if not self.done.called:
            self.done.callback(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            self.done.errback(tls_failure(reason, self.transport) or reason)


async def examine_tls(reactor: Any, gateway: Gateway) -> tuple[str, dict[str, Any], str]:
    """What was agreed on, the same for machines, and what to look after.

    :raises StepFailed: where there is no TLS with a gateway that can be trusted.
    """
    try:
        endpoint = gateway.control_endpoint(reactor, tcp_endpoints(reactor))
        shaken: Any = await endpoint.connect(Factory.forProtocol(_Handshake))
        transport = await shaken.done.addTimeout(HANDSHAKE_TIMEOUT, reactor)
    except TlsFailed as error:
        raise StepFailed(str(error), _advice(str(error))) from None
    except (ConnectError, OSError) as error:
        raise StepFailed(f"the connection ended: {reason(error)}", _advice("")) from None
    except DeferredTimeout:
        shaken.transport.abortConnection()
        text = f"no TLS handshake within {HANDSHAKE_TIMEOUT:g} s"
        raise StepFailed(text, "is it the port of an ssl: endpoint?") from None
    session = transport.getHandle()
    certificate: x509.Certificate = transport.getPeerCertificate().to_cryptography()
    transport.abortConnection()
    ends = certificate.not_valid_after_utc
    days = int((ends.timestamp() - reactor.seconds()) // 86400)
    facts = {
        "version": session.get_protocol_version_name(),
        "cipher": session.get_cipher_name(),
        "subject": certificate.subject.rfc4514_string(),
        "days": days,
    }
    text = (
        f"{facts['version']}, {facts['cipher']}; the certificate of {facts['subject']} is trusted,"
        f" and good for {days} days"
    )
    return text, facts, "renew it at the gateway" if days < SOON else ""


def _advice(text: str) -> str:
    if "does not speak TLS" in text:
        return "leave --tls out, or name the port of an ssl: endpoint of control.endpoints"
    if "certificate" in text and ("ask" in text or "accept" in text):
        return "--cert and --key: a certificate of the CA that control.client_ca names"
    if "name" in text or "is for" in text:
        return "dial the name that the certificate is for, or say it with --server-name"
    return "--ca names the CA that signed the gateway's certificate, or that certificate itself"
