"""New names: sessions, leases, tickets, messages and clients without one."""

from __future__ import annotations

import secrets
import uuid

from ulid import ULID

from relayx.core.messages import Role

TICKET_BYTES = 24


class RandomNames:
    """Names that nobody can guess and that never come twice."""

    def session_id(self) -> str:
        """A lease's name: ``sess_`` and a ULID, as the guide's examples have it."""
        return f"sess_{ULID()}"

    def pairing_id(self) -> str:
        """A session's name."""
        return f"pair_{uuid.uuid4().hex}"

    def ticket(self) -> str:
        """A lease's ticket: 192 random bits (contract section 6 asks for 128)."""
        return secrets.token_urlsafe(TICKET_BYTES)

    def client_id(self, role: Role) -> str:
        """A name for a client that registers without one."""
        return f"{role.lower()}-{str(ULID()).lower()}"

    def msg_id(self, unix_ms: int) -> str:
        """``<uuid4>-<unix_ms>`` (contract section 2, guide section 4.4)."""
        return f"{uuid.uuid4()}-{unix_ms}"
