"""What ``relayx doctor`` has found: steps, what each came to, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec


class Status(StrEnum):
    """How a step went; `WARN` works, and yet somebody should look."""

    OK = "ok"
    WARN = "warn"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(msgspec.Struct, frozen=True):
    """One step.

    :ivar step: its name, a word.
    :ivar text: what was seen, one sentence.
    :ivar advice: what to do, "" where there is nothing to do.
    :ivar facts: the same for machines.
    """

    step: str
    status: Status
    text: str
    advice: str = ""
    facts: Mapping[str, Any] = {}


class StepFailed(Exception):
    """A step failed, and those that need it cannot be made."""

    def __init__(self, text: str, advice: str, **facts: Any) -> None:
        super().__init__(text)
        self.text = text
        self.advice = advice
        self.facts = facts


class Report:
    """The steps so far.

    :param show: is told of each.
    """

    def __init__(self, show: Callable[[Finding], None]) -> None:
        self.findings: list[Finding] = []
        self._show = show

    def add(
        self,
        step: str,
        status: Status,
        text: str,
        advice: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """A step is over."""
        finding = Finding(step, status, text, advice, facts or {})
        self.findings.append(finding)
        self._show(finding)

    @property
    def warned(self) -> bool:
        """Whether a step works that somebody should look at."""
        return any(finding.status is Status.WARN for finding in self.findings)

    @property
    def healthy(self) -> bool:
        """Whether no step failed."""
        return all(finding.status is not Status.FAILED for finding in self.findings)
