"""``python -m bench``: the gateway and its peers side by side."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from bench import loader
from bench.catalogue import workloads
from bench.idle import WANTED, affordable, raise_descriptor_limit
from bench.options import choose, gateways_of
from bench.peers import NAMES, Peer, others
from bench.processes import PeerError
from bench.results import Run
from bench.rounds import expected_seconds, run


def say(text: str) -> None:
    """One line, at once."""
    click.echo(text)
    sys.stdout.flush()


def present(peers: list[Peer]) -> tuple[list[Peer], dict[str, str]]:
    """Those that can be measured here, and why the others cannot."""
    there, absent = [], {}
    for peer in peers:
        reason = peer.missing()
        if reason:
            absent[peer.name] = reason
            say(f"skip {peer.name}: it needs {reason}")
        else:
            there.append(peer)
    return there, absent


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 50))
@click.option(
    "--seconds",
    default=3.0,
    show_default=True,
    type=click.FloatRange(0.1, 60),
    help="Of each measurement.",
)
@click.option("--quick", is_flag=True, help="One round, half a second each, 500 idle sessions.")
@click.option("--only", default="", metavar="WORKLOAD[,..]", help="These workloads only.")
@click.option("--peers", "chosen", default="", metavar="NAME[,..]", help="These peers only.")
@click.option("--reactor", default="", help="twistd's, for the gateway.")
@click.option(
    "--data",
    multiple=True,
    metavar="KEY=VALUE",
    help="A key of the gateway's section data, such as splice=off; may be repeated.",
)
@click.option(
    "--variant",
    multiple=True,
    metavar="NAME:KEY=VALUE,..",
    help="The gateway once more with other data keys, or reactor=NAME, or path=CHECKOUT.",
)
@click.option(
    "--profile",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for a profile (pstats) of each run of the gateway; slows it down a lot.",
)
@click.option("--name", default="", help="Of the files with the results.  [default: the date]")
@click.option(
    "--out",
    default=Path(__file__).with_name("results"),
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the results.  [default: bench/results]",
)
@click.option("--list", "listing", is_flag=True, help="Name workloads and peers, and end.")
def main(
    rounds: int,
    seconds: float,
    quick: bool,
    only: str,
    chosen: str,
    reactor: str,
    data: tuple[str, ...],
    variant: tuple[str, ...],
    profile: Path | None,
    name: str,
    out: Path,
    listing: bool,
) -> None:
    """Measure the gateway and its peers side by side, in turn, in several rounds."""
    if quick:
        rounds, seconds = 1, 0.5
    wanted = 500 if quick else WANTED
    known = workloads(wanted)
    if listing:
        for workload in known:
            say(f"{workload.name:16} {workload.title}")
        say("peers: " + ", ".join(NAMES))
        return
    raise_descriptor_limit()
    if profile:
        profile.mkdir(parents=True, exist_ok=True)
    picked = [known[i] for i in choose(only, [one.name for one in known], "--only")]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="relayx-bench-") as builds:
        gateways = gateways_of(reactor, data, variant, profile)
        every = [*gateways[:1], *others(Path(builds))]
        selected = [every[i] for i in choose(chosen, [peer.name for peer in every], "--peers")]
        peers, absent = present([*selected, *gateways[1:]])
        for peer in peers:
            fitting = affordable(wanted, peer.descriptors_each)
            if fitting < wanted and any(one.name == "idle" for one in picked):
                say(f"{peer.name}: {fitting} idle sessions, not {wanted}: the descriptor limit")
        try:
            program = loader.build(Path(builds))
        except PeerError as error:
            raise click.ClickException(str(error)) from None
        load = loader.Loader(program, seconds, warmup=min(0.5, seconds / 2))
        total = expected_seconds(peers, picked, rounds, load)
        say(
            f"{len(peers)} peers x {len(picked)} workloads x {rounds} rounds of {seconds:g} s: "
            f"about {total / 60:.1f} minutes"
        )
        names = {gateway.name for gateway in gateways}
        done = Run(
            name or time.strftime("%Y%m%d-%H%M%S"),
            picked,
            {peer.name: peer.version() for peer in peers},
            [peer.name for peer in peers if peer.name in names],
            absent,
            {"rounds": rounds, "seconds": seconds},
        )
        try:
            for one in run(peers, picked, rounds, load, say):
                done.add(one)
        except KeyboardInterrupt:
            say("interrupted; what follows is of the rounds so far")
    if not done.measurements:
        raise SystemExit(1)
    say("\n" + done.text())
    for file in done.write(out):
        say(f"wrote {file}")
    if done.faulty:
        say("with faults, see above")
        raise SystemExit(1)


if __name__ == "__main__":
    main(prog_name="python -m bench")
