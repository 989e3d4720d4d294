"""What the fuzzing tests share: how many examples they take, and what must never be logged.

``RELAYX_TEST_EXAMPLES`` multiplies the examples of each, which take some 20 s of a processor
altogether without it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import TestCase

from hypothesis import HealthCheck, settings
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher


def examples(usual: int) -> settings:
    """Settings for a property that takes `usual` examples."""
    times = int(os.environ.get("RELAYX_TEST_EXAMPLES", "1"))
    return settings(
        max_examples=usual * times,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def clean_log(case: TestCase, *secrets: str) -> Iterator[list[str]]:
    """See that what is logged meanwhile has no traceback, no raw control character, no secret.

    :return: a list that gets the text of each line.
    """
    lines: list[str] = []
    wrong: list[str] = []

    def look(event: LogEvent) -> None:
        text = formatEvent(event)
        lines.append(text)
        level: Any = event.get("log_level")
        if event.get("log_failure") is not None or level is LogLevel.critical:
            wrong.append(f"a failure: {text} {event.get('log_failure')}")
        if str(event.get("log_namespace", "")).startswith("relayx"):
            if not text.isprintable():
                wrong.append(f"control characters: {text!r}")
            wrong.extend(f"a secret: {text}" for secret in secrets if secret in repr(event))

    globalLogPublisher.addObserver(look)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(look)
    case.assertEqual(wrong, [])
