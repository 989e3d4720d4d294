"""What is wrong with a configuration, all of it at once (contract section 1)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from relayx.core.errors import RelayError

_MOST_SHOWN = 80


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong, or, among warnings, unwise.

    :ivar file: the file it is in as the operator named it, or an environment variable.
    :ivar key: the dotted key, "" where it is about the whole file.
    :ivar value: the value as it may be shown, "" where there is none; never a secret's.
    :ivar problem: what is wrong with it.
    :ivar allowed: what would be right, "" where the problem says so itself.
    """

    file: str
    key: str
    value: str
    problem: str
    allowed: str = ""

    def __str__(self) -> str:
        subject = f"{self.key} = {self.value}" if self.value else self.key
        parts = [plain(self.file)] + ([f"{subject} {self.problem}"] if subject else [self.problem])
        return ": ".join(parts) + (f"; allowed: {self.allowed}" if self.allowed else "")


class ConfigError(RelayError):
    """The configuration cannot be used.

    :ivar faults: every :class:`Fault` found, one or more.
    :ivar warnings: what is unwise besides.
    """

    def __init__(self, faults: Iterable[Fault], warnings: Iterable[Fault] = ()) -> None:
        self.faults = tuple(faults)
        self.warnings = tuple(warnings)
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))


def shown(value: object) -> str:
    """A value from a file on one line: cut, and without control characters.

    Of a list or a mapping only that it is one: through YAML's aliases a short file can hold
    one that takes for ever to print.
    """
    if isinstance(value, dict | list | tuple | set):
        return "{…}" if isinstance(value, dict) else "[…]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"


def plain(name: object) -> str:
    """A key or a path as it stands where that is safe in a line, else as :func:`shown`."""
    if isinstance(name, str) and name and name.isprintable() and len(name) <= 4 * _MOST_SHOWN:
        return name
    return shown(name)
