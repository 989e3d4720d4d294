"""What a configuration asks of the machine: descriptors and memory (contract section 1)."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

import msgspec

from relayx.config.ephemeral import LocalPorts
from relayx.config.faults import ConfigError, Fault
from relayx.config.model import Config
from relayx.config.srt import Enabled
from relayx.config.zmq import broker_descriptors

GetLimit = Callable[[int], tuple[int, int]]
SetLimit = Callable[[int, tuple[int, int]], None]

KEY = "relay.max_fe"
"""The key that a fault about descriptors stands under: the first of those in the sum."""

OWN_DESCRIPTORS = 64 + 128
"""What the process needs besides: standard streams, the reactor's, logs, operators' connections.
Taken where there."""

BROKER_RUSH = 4096
"""What libzmq may accept beyond every limit before that is seen, and closed. Taken where there."""


class Machine(msgspec.Struct, frozen=True):
    """What there is to run on.

    :ivar descriptors: the hard limit of open descriptors.
    :ivar memory: bytes of RAM, 0 where that cannot be told.
    :ivar local_ports: the ports that the system hands out by itself.
    """

    descriptors: int
    memory: int
    local_ports: LocalPorts = LocalPorts()

    @classmethod
    def here(cls, getrlimit: GetLimit = resource.getrlimit) -> Machine:
        """This machine, for this process."""
        try:
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            memory = 0
        hard = _limit(getrlimit(resource.RLIMIT_NOFILE)[1])
        return cls(hard, max(memory, 0), LocalPorts.here())


def _limit(value: int) -> int:
    return 2**63 if value == resource.RLIM_INFINITY else value


def port_count(config: Config) -> int:
    """How many data ports there are, both protocols together."""
    return len(config.relay.ports("srt")) + len(config.relay.ports("zmq"))


def descriptor_parts(config: Config) -> dict[str, int]:
    """The parts of the sum of the contract, by what each is for.

    All SRT connections of a port share its UDP socket, and one that is dialled has its own. A
    broker has some for itself, and two sides whose connections are counted once libzmq has
    accepted them: as many as wait in the backlog may be there beyond ``max_connections``.
    """
    ports = port_count(config)
    brokers = sum(map(broker_descriptors, config.zmq.brokers))
    srt = config.srt.enabled is not Enabled.NO
    udp = len(config.relay.ports("srt")) if srt else 0
    listeners = ports + udp + max(len(config.control.endpoints), 1) + bool(config.http.endpoint)
    return {
        "relay.max_fe": config.relay.max_fe,
        "relay.max_be": config.relay.max_be,
        "control.max_unregistered": config.control.max_unregistered,
        "data.max_waiting_hello": config.data.max_waiting_hello,
        "listeners": listeners,
        "2 x ports": 2 * ports,
        **({"srt.dial": len(config.srt.dial)} if srt and config.srt.dial else {}),
        **({"zmq.brokers": brokers} if brokers else {}),
    }


def descriptors_needed(config: Config) -> int:
    """How many descriptors the gateway may need at once."""
    return sum(descriptor_parts(config).values())


def descriptors_wanted(config: Config) -> int:
    """How many are taken where the system gives them: the sum, and what it leaves out.

    Besides those that have not said who they are there may be as many that were turned away, and
    are read for a second more (contract sections 2 and 6).
    """
    turned_away = config.control.max_unregistered + config.data.max_waiting_hello
    rush = BROKER_RUSH if config.zmq.brokers else 0
    return descriptors_needed(config) + turned_away + OWN_DESCRIPTORS + rush


def descriptor_line(config: Config) -> str:
    """The sum with its parts, on one line."""
    parts = " + ".join(f"{count} {name}" for name, count in descriptor_parts(config).items())
    return f"{descriptors_needed(config)} descriptors needed = {parts}"


def descriptor_fault(file: str, config: Config, limit: int) -> Fault | None:
    """The fault that `limit` descriptors are too few, None where they are enough."""
    short = descriptors_needed(config) - limit
    if short <= 0:
        return None
    return Fault(
        file,
        KEY,
        str(config.relay.max_fe),
        f"is too much with the rest of the sum: {descriptor_line(config)}, but the hard limit"
        f" is {limit}, which is {short} too few",
        f"a sum up to {limit}, or a higher limit (ulimit -n, LimitNOFILE of systemd)",
    )


def raise_descriptor_limit(
    config: Config,
    file: str = "",
    *,
    getrlimit: GetLimit = resource.getrlimit,
    setrlimit: SetLimit = resource.setrlimit,
) -> int:
    """Raise the soft limit of descriptors as far as `config` needs; the new soft limit.

    :param file: named in the fault.
    :raises ConfigError: where the hard limit, or the system, does not allow it.
    """
    soft, hard = getrlimit(resource.RLIMIT_NOFILE)
    if fault := descriptor_fault(file, config, _limit(hard)):
        raise ConfigError([fault])
    target = min(descriptors_wanted(config), _limit(hard))
    if _limit(soft) >= target:
        return soft
    try:
        setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    except (OSError, ValueError):
        if fault := descriptor_fault(file, config, soft):
            raise ConfigError([fault]) from None
        return soft
    return target


def worst_case_memory(config: Config) -> int:
    """Bytes that the gateway holds when each direction of each port is full."""
    return port_count(config) * 2 * config.relay.ring_buffer_size


def memory_line(config: Config) -> str:
    """The worst case of memory with its parts, on one line."""
    gib = worst_case_memory(config) / 2**30
    return (
        f"{worst_case_memory(config)} bytes ({gib:.1f} GiB) of buffers in the worst case ="
        f" {port_count(config)} ports x 2 x {config.relay.ring_buffer_size}"
        " relay.ring_buffer_size"
    )


def memory_warning(file: str, config: Config, memory: int) -> Fault | None:
    """A warning where the worst case is more than `memory` bytes; 0 of them is not known."""
    if not memory or worst_case_memory(config) <= memory:
        return None
    return Fault(
        file,
        "relay.ring_buffer_size",
        str(config.relay.ring_buffer_size),
        f"may take more than this machine's {memory} bytes of memory: {memory_line(config)}",
    )
