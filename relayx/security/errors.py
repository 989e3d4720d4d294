"""What is wrong with a file of keys or secrets."""

from __future__ import annotations

from relayx.core.errors import RelayError

_MOST_SHOWN = 320


class KeyFileError(RelayError):
    """A file of keys, or a directory of them, cannot be used.

    No text of one shows what a file holds.

    :ivar path: the file or directory, as it was named.
    :ivar problem: what is wrong with it, as it stands behind its name.
    :ivar allowed: what would be right, "" where the problem says so itself.
    """

    def __init__(self, path: str, problem: str, allowed: str = "") -> None:
        super().__init__(path, problem, allowed)
        self.path = path
        self.problem = problem
        self.allowed = allowed

    def __str__(self) -> str:
        advice = f"; allowed: {self.allowed}" if self.allowed else ""
        return f"{plain(self.path)}: {self.problem}{advice}"


def plain(text: str) -> str:
    """A path or a name as it stands where that is safe in a line, else quoted and cut."""
    if text and text.isprintable() and len(text) <= _MOST_SHOWN:
        return text
    return ascii(text[:_MOST_SHOWN])
