"""What is answered where a request is not done: a status, a code and a text."""

from __future__ import annotations


class Refusal(Exception):
    """A request that is answered with an error.

    :ivar status: of HTTP.
    :ivar code: ``error_code`` of the answer.
    :ivar text: ``error`` of the answer.
    :ivar headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        text: str,
        *,
        problems: tuple[str, ...] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, code, text)
        self.status, self.code, self.text = status, code, text
        self.problems, self.headers = problems, headers or {}


def not_found(text: str) -> Refusal:
    """404."""
    return Refusal(404, "NOT_FOUND", text)


def bad_query(text: str) -> Refusal:
    """400, for what stands behind the question mark."""
    return Refusal(400, "QUERY_INVALID", text)
