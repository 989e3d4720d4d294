"""``relayx top``: what a gateway does, in a terminal, by the admin API."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import deferLater
from zope.interface import implementer

from relayx.admin.model import MOST_ITEMS, History, Page, Session, Status
from relayx.cli.admin import Admin, AdminClient, admin_options
from relayx.cli.options import duration
from relayx.cli.running import Failed, run
from relayx.cli.topview import Seen, screen, trouble

LEAST_INTERVAL = 0.2
"""Seconds."""

_END = ("q", "Q", "\x04")


def _interval(text: str) -> float:
    return max(LEAST_INTERVAL, duration(text))


@click.command()
@admin_options
@click.option(
    "--interval",
    type=_interval,
    default="1s",
    show_default=True,
    help="How long to wait between two looks.",
)
@click.option("--once", is_flag=True, help="Look once, print and end; needs no terminal.")
def command(admin: Admin, interval: float, once: bool) -> None:
    """Show clients, ports, sessions and throughput of the gateway, until q or Ctrl-C."""
    if not once and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("this needs a terminal; --once does not")
    run(lambda reactor: _once(reactor, admin) if once else _follow(reactor, admin, interval))


async def _look(client: AdminClient) -> Seen:
    return Seen(
        await client.ask("GET", "/api/v1/status", Status),
        await client.ask("GET", f"/api/v1/sessions?limit={MOST_ITEMS}", Page[Session]),
        await client.ask("GET", "/api/v1/history", History),
    )


async def _once(reactor: Any, admin: Admin) -> None:
    client = AdminClient(reactor, admin)
    try:
        seen = await _look(client)
    finally:
        await client.close()
    Console(highlight=False).print(screen(seen, admin.url))


async def _follow(reactor: Any, admin: Admin, interval: float) -> None:
    client = AdminClient(reactor, admin)
    console = Console(highlight=False)
    ended: Deferred[None] = Deferred()
    pauses: list[Deferred[None]] = []
    try:
        seen = await _look(client)
        with (
            _keys(reactor, lambda key: _pressed(key, ended, pauses)),
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            while not ended.called:
                shown = screen(seen, admin.url, most=max(1, console.height - 16))
                live.update(shown, refresh=True)
                await _pause(reactor, interval, ended, pauses)
                try:
                    seen = await _look(client)
                except Failed as error:
                    live.update(trouble(error.message), refresh=True)
                    await _pause(reactor, interval, ended, pauses)
    except CancelledError:
        pass  # Ctrl-C is how this ends
    finally:
        await client.close()


def _pressed(key: str, ended: Deferred[None], pauses: list[Deferred[None]]) -> None:
    if key in _END and not ended.called:
        ended.callback(None)
        for pause in list(pauses):
            pause.cancel()


async def _pause(
    reactor: Any, seconds: float, ended: Deferred[None], pauses: list[Deferred[None]]
) -> None:
    """Wait, but not past the end.

    :param pauses: the pause is in it as long as it lasts.
    """
    if ended.called:
        return
    pause: Deferred[None] = deferLater(reactor, seconds)
    pauses.append(pause)
    try:
        await pause
    except CancelledError:
        if not ended.called:
            raise
    finally:
        pauses.remove(pause)


@implementer(IReadDescriptor)
class _Keyboard:
    """Reads what is typed."""

    def __init__(self, told: Callable[[str], None]) -> None:
        self._told = told

    def fileno(self) -> int:
        """Standard input."""
        return sys.stdin.fileno()

    def doRead(self) -> None:
        """Something was typed."""
        for key in os.read(self.fileno(), 64).decode(errors="replace") or "q":
            self._told(key)

    def connectionLost(self, reason: Any) -> None:
        """The terminal is gone."""
        self._told("q")

    def logPrefix(self) -> str:
        """For the log."""
        return "keyboard"


@contextmanager
def _keys(reactor: Any, told: Callable[[str], None]) -> Iterator[None]:
    """Have each key told as it is pressed, and leave the terminal as it was."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    keyboard = _Keyboard(told)
    tty.setcbreak(descriptor)
    reactor.addReader(keyboard)
    try:
        yield
    finally:
        reactor.removeReader(keyboard)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
