"""A whole run: what was measured, and the files that tell of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.machine import describe
from bench.plot import draw
from bench.report import render
from bench.rounds import Measurement
from bench.summary import Summary
from bench.targets import Judged, judge
from bench.workloads import Workload


class Run:
    """Measurements as they come, and the whole in the end.

    :param name: of its files.
    :param peers: name and version of each.
    :param gateways: which of these are the gateway.
    :param absent: names and reasons of those that were skipped.
    :param settings: options that matter to who reads the figures.
    """

    def __init__(
        self,
        name: str,
        workloads: Sequence[Workload],
        peers: Mapping[str, str],
        gateways: Sequence[str],
        absent: Mapping[str, str],
        settings: Mapping[str, Any],
    ) -> None:
        self.name = name
        self._workloads = workloads
        self._peers, self._gateways, self._absent = peers, gateways, absent
        self._settings = settings
        self._machine = describe()
        self.measurements: list[Measurement] = []

    def add(self, one: Measurement) -> None:
        """Take a measurement in."""
        self.measurements.append(one)

    @property
    def faulty(self) -> bool:
        """Whether anything was lost, wrong or refused."""
        return any(one.measured.faults for one in self.measurements)

    def _facts(self) -> list[str]:
        where, told = self._machine, self._settings
        loads = [one.load_average[0] for one in self.measurements]
        return [
            f"{where['date']}, {where['cores']} cores of {where['processor']}, "
            f"{where['memory_gib']} GiB, {where['kernel']}, {where['system']}, "
            f"Python {where['python']}",
            f"{told['rounds']} round(s) of {told['seconds']:g} s; medians, least and most in "
            f"brackets; load average before a measurement {min(loads)} to {max(loads)}",
            *(f"{name}: {version}" for name, version in self._peers.items()),
            *(f"{name} was skipped: it needs {why}" for name, why in self._absent.items()),
        ]

    def text(self) -> str:
        """The report."""
        summary = Summary(self.measurements)
        title = f"relayx and its peers: {self.name}"
        peers = list(self._peers)
        return render(
            title,
            self._facts(),
            summary,
            self._workloads,
            peers,
            {name: self._judged(summary, name) for name in self._gateways},
        )

    def _judged(self, summary: Summary, gateway: str) -> list[Judged]:
        """Without the bounds that this run was not about: another workload, or another peer."""
        named = {"", *self._peers, *self._absent}
        return [
            one
            for one in judge(summary, gateway)
            if summary.measured(one.target.workload, gateway) and one.target.other in named
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        summary = Summary(self.measurements)
        return {
            "name": self.name,
            "machine": self._machine,
            "settings": dict(self._settings),
            "peers": dict(self._peers),
            "skipped": dict(self._absent),
            "summary": summary.as_json(),
            "targets": [
                one.as_json() for name in self._gateways for one in self._judged(summary, name)
            ],
            "measurements": [one.as_json() for one in self.measurements],
        }

    def picture(self) -> str:
        """The plot."""
        where = self._machine
        subtitle = (
            f"bars are ratios to HAProxy (dashed line), medians (rounds: "
            f"{self._settings['rounds']}), thin lines least to most; "
            f"{where['cores']} cores of {where['processor']}, {where['kernel']}, "
            f"{str(where['date'])[:10]}"
        )
        title = "relayx and its peers on one machine, in one run"
        summary = Summary(self.measurements)
        peers = list(self._peers)
        return draw(title, subtitle, summary, self._workloads, peers, self._gateways)

    def write(self, folder: Path) -> list[Path]:
        """Write the three files."""
        folder.mkdir(parents=True, exist_ok=True)
        texts = {
            ".json": json.dumps(self.as_json(), indent=1) + "\n",
            ".rst": self.text() + "\n",
            ".svg": self.picture(),
        }
        written = []
        for suffix, text in texts.items():
            file = folder / (self.name + suffix)
            file.write_text(text)
            written.append(file)
        return written
