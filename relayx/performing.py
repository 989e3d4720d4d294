"""Where effects become I/O, in order, and the next tick is asked of the reactor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from relayx.control.factory import ControlFactory
from relayx.control.statepush import StatePush
from relayx.control.telemetry import TelemetryTimer
from relayx.core import effects as fx
from relayx.core.messages import Auth, PortGrant, PortState
from relayx.core.switchboard import Switchboard
from relayx.planes import Planes

Tell = Callable[[str, str, str, dict[str, Any]], None]
"""Takes a level, an event, a text and fields, for the log."""


class Performing:
    """Carries out effects; those of events that they cause come after them.

    :param reactor: an IReactorTime.
    :param pair: makes a session of two data connections.
    :param tell: writes a line in the log.
    :param done: called each time nothing is left to carry out.
    """

    def __init__(
        self,
        reactor: Any,
        switchboard: Switchboard,
        control: ControlFactory,
        data: Planes,
        pair: Callable[[fx.Pair], None],
        tell: Tell,
        done: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._switchboard = switchboard
        self._control = control
        self._tell = tell
        self._done = done
        self._effects: deque[fx.Effect] = deque()
        self._busy = False
        self._planes = data
        self._tick_call: Any = None
        self._ticks = True
        self._push = StatePush(reactor, control, self._recipients, self._state)
        self.telemetry = TelemetryTimer(reactor, control, data.bytes_moved)
        self._carry_out: dict[type[fx.Effect], Callable[[Any], None]] = {
            fx.Send: self._send,
            fx.Broadcast: self._broadcast,
            fx.StateChanged: self._state_changed,
            fx.Registered: self._registered,
            fx.CloseControl: self._close_control,
            fx.Subscribe: self._subscribe,
            fx.Wait: data.wait,
            fx.Refuse: data.refuse,
            fx.CloseLink: data.close_link,
            fx.Pair: pair,
            fx.EndSession: data.end_session,
            fx.Note: self._note,
        }

    def __call__(self, effects: list[fx.Effect]) -> None:
        """Carry out effects in order."""
        self._planes.changed()
        self._effects.extend(effects)
        if self._busy:
            return
        self._busy = True
        try:
            while self._effects:
                effect = self._effects.popleft()
                if _tells(effect):
                    self._planes.refresh()
                self._carry_out[type(effect)](effect)
        finally:
            self._busy = False
        self._schedule_tick()
        self._done()

    def close(self) -> None:
        """Push nothing more."""
        self._push.close()
        self.telemetry.close()

    def stop_ticking(self) -> None:
        """Nothing is due any more, whatever is still carried out."""
        self._ticks = False
        if self._tick_call is not None:
            self._tick_call.cancel()
            self._tick_call = None

    def _schedule_tick(self) -> None:
        due = self._switchboard.next_due()
        call = self._tick_call
        if due is None or not self._ticks or (call is not None and call.getTime() <= due):
            return  # an early tick finds nothing due and schedules the next
        delay = max(0.0, due - self._reactor.seconds())
        if call is not None:
            call.reset(delay)
        else:
            self._tick_call = self._reactor.callLater(delay, self._tick)

    def _tick(self) -> None:
        self._tick_call = None
        self(self._switchboard.tick(self._reactor.seconds()))

    def _send(self, effect: fx.Send) -> None:
        """Send a message, and those right behind it for the same client, as one.

        So a registration is answered as a whole, with the keys of all BEs: ``max_outbox_bytes``
        is for what a client does not read, and not for how much there is to tell it.
        """
        sends = [effect]
        while self._effects:
            following = self._effects[0]
            if not isinstance(following, fx.Send) or following.conn != effect.conn:
                break
            sends.append(following)
            self._effects.popleft()
        connection = self._control.get(effect.conn)
        if connection is not None:
            connection.send_all((send.message, send.trace_id) for send in sends)
            if any(isinstance(send.message, PortState) for send in sends):
                self._push.told(effect.conn)

    def _broadcast(self, effect: fx.Broadcast) -> None:
        line = self._control.encode(effect.message, effect.trace_id)
        clients = self._switchboard.clients(effect.role)
        self._control.counts.went(effect.message, len(clients))
        for client in clients:
            connection = self._control.get(client.conn)
            if connection is not None:
                connection.outbox.send(line)

    def _state_changed(self, effect: fx.StateChanged) -> None:
        self._push.changed(effect.trace_id)

    def _recipients(self) -> list[tuple[int, bool]]:
        return [(client.conn, client.v11) for client in self._switchboard.clients()]

    def _state(self, v11: bool) -> PortState:
        self._planes.refresh()
        return self._switchboard.port_state(v11=v11)

    def _registered(self, effect: fx.Registered) -> None:
        connection = self._control.get(effect.conn)
        if connection is not None:
            connection.registered = True

    def _close_control(self, effect: fx.CloseControl) -> None:
        connection = self._control.get(effect.conn)
        if connection is not None:
            connection.close()

    def _subscribe(self, effect: fx.Subscribe) -> None:
        self.telemetry.subscribe(effect.conn)

    def _note(self, effect: fx.Note) -> None:
        self._tell(effect.level, effect.event, effect.text, effect.fields)


def _tells(effect: fx.Effect) -> bool:
    """Whether it tells a client what it may do now, so that it may come at once to do it."""
    if isinstance(effect, fx.Send | fx.Broadcast):
        return isinstance(effect.message, Auth | PortGrant | PortState)
    return False
