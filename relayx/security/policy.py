"""What an operator may choose about signatures (configuration, section ``security``)."""

from __future__ import annotations

from enum import StrEnum


class Signing(StrEnum):
    """What becomes of messages by whether they are signed (``security.signing``).

    `OFF` looks at no signature. `ACCEPT` verifies what is signed and lets the rest through.
    `REQUIRE` refuses what is not signed.
    """

    OFF = "off"
    ACCEPT = "accept"
    REQUIRE = "require"


class OnExpired(StrEnum):
    """What becomes of a key past its time (``security.on_expired``).

    `WARN` goes on using it. With `REJECT` it neither signs nor verifies.
    """

    WARN = "warn"
    REJECT = "reject"
