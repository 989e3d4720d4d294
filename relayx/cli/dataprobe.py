"""Whether a data port can be used from here, without taking a session.

An FE says HELLO (contract section 6) for a service that nobody offers. On an empty port the answer
is ``PORT_EMPTY``, on another one ``NOT_ADMITTED`` or ``PORT_BUSY``: whatever comes, the port was
reached, HELLO was read and the source address was looked at, and no BE is ever paired with it, not
even one that comes to the port in between.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectError

from relayx.cli.diagnosis import StepFailed
from relayx.cli.running import reason
from relayx.client import ClientError, Gateway, Refused, TlsFailed
from relayx.client.data import open_data
from relayx.client.gateway import tcp_endpoints
from relayx.core.errors import Code
from relayx.core.hello import Hello
from relayx.core.messages import Role

SERVICE = "relayx-doctor"
"""The service that nobody offers."""

ANSWER_TIMEOUT = 5.0

_REACHED = {Code.PORT_EMPTY, Code.PORT_BUSY, Code.PORT_RESERVED, Code.NOT_ADMITTED}

_ADVICE: dict[str, str] = {
    Code.HELLO_INVALID: "where the gateway has data.tls.required, give --data-tls",
    Code.DRAINING: "the gateway is being stopped; try again",
}

Found = tuple[str, str, dict[str, Any]]


async def probe(reactor: Any, gateway: Gateway, port: int, client_id: str) -> Found:
    """What a data port answers, what to do about it, and the same for machines.

    :raises StepFailed: where it cannot be used.
    """
    hello = Hello(role=Role.FE, client_id=client_id, service=SERVICE, ack=True)
    endpoint = gateway.data_endpoint(reactor, tcp_endpoints(reactor), port)
    try:
        connection = await open_data(reactor, endpoint, hello, answer_timeout=ANSWER_TIMEOUT)
    except (ConnectError, OSError) as error:
        raise StepFailed(
            f"no TCP connection to data port {port}: {reason(error)}",
            "the control port can be reached and this one cannot: let the data ports through at "
            "every firewall on the way (relayx firewall, relayx check), and see data.interface",
            port=port,
        ) from None
    try:
        await connection.when_paired()
    except Refused as error:
        return _judged(port, error)
    except TlsFailed as error:
        advice = "--data-tls goes with data.tls at the gateway; is --ca that of this certificate?"
        raise StepFailed(f"data port {port}: {error}", advice, port=port) from None
    except ClientError as error:
        raise StepFailed(
            f"data port {port} does not answer HELLO: {reason(error)}",
            "is something else on that port, or does the gateway want TLS there (--data-tls)?",
            port=port,
        ) from None
    finally:
        connection.abort()
    return f"data port {port} took HELLO", "", {"port": port}


def _judged(port: int, error: Refused) -> Found:
    facts = {"port": port, "error_code": error.code}
    if error.code == Code.NOT_ADMITTED and "data.admission is peer" in error.text:
        raise StepFailed(
            f"data port {port} does not admit us: {error.text}",
            "data connections reach the gateway from another address than the control connection: "
            "a proxy or several NAT addresses are on the way. Have both go one way, or set "
            "data.admission: ticket at the gateway",
            **facts,
        )
    if error.code not in _REACHED:
        raise StepFailed(
            f"data port {port} refuses: {error}",
            _ADVICE.get(error.code, "look at the gateway's log"),
            **facts,
        )
    if "data.admission is ticket" in error.text:
        text = f"data port {port} is reached; it admits by the ticket of a lease, which we have not"
    else:
        text = f"data port {port} is reached and admits us; it answers {error.code}, as it should"
    return text, "", facts
