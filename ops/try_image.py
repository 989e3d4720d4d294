"""Tries what the Dockerfile says without a container: ``tox -e image``. Takes a minute.

The steps that need no container, and no package of the system, are run as they stand there, on the
files that .dockerignore lets through, in a folder and a virtual environment of their own: what the
build stage installs, what the image runs, and its health check, the last two as another user where
this one is root. Then a back end and a front end exchange bytes, and the gateway is stopped as
``docker stop`` does.
"""

from __future__ import annotations

import fnmatch
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NOBODY = 65534
HOST = f"127.86.{random.randrange(256)}.{random.randrange(1, 255)}"
DEADLINE = 30.0


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile and what follows each, lines joined."""
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", plain)
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines())
        if word
    ]


def is_sent(path: str, patterns: list[str]) -> bool:
    """Whether a file gets to the builder; the last pattern that matches it or a parent decides."""
    sent = True
    parents = [str(parent) for parent in Path(path).parents if str(parent) != "."]
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        names = [path, *parents]
        anywhere = bare.removeprefix("**/")
        if any(fnmatch.fnmatch(name, bare) for name in names) or (
            anywhere != bare and any(Path(name).match(anywhere) for name in names)
        ):
            sent = pattern.startswith("!")
    return sent


def main() -> None:
    """Run the steps; an exception, or a status other than 0, where one fails."""
    told = instructions((ROOT / "Dockerfile").read_text())
    folder = Path(tempfile.mkdtemp(prefix="relayx-image-"))
    folder.chmod(0o755)
    try:
        _build(told, folder)
        _run(told, folder)
    finally:
        shutil.rmtree(folder)
    print("the image's steps work")


def _build(told: list[tuple[str, str]], folder: Path) -> None:
    patterns = (ROOT / ".dockerignore").read_text().split("\n")
    patterns = [line for line in patterns if line and not line.startswith("#")]
    source = folder / "src"
    for name in (name for name in _files() if is_sent(name, patterns)):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    first_stage = told[: [word for word, _ in told].index("FROM", 1)]
    for word, rest in first_stage:
        if word == "RUN" and rest.startswith("apt-get "):
            print("not tried: RUN", rest, flush=True)
        elif word == "RUN":
            line = rest.replace("/opt/relayx", str(folder / "relayx"))
            line = re.sub(r"^python ", f"{sys.executable} ", line)
            print("RUN", line, flush=True)
            subprocess.run(
                ["sh", "-ec", line], cwd=source, env=_clean(), check=True, stdout=subprocess.DEVNULL
            )
        elif word == "COPY":
            for name in rest.split()[:-1]:
                if not (source / name).exists():
                    raise SystemExit(
                        f"COPY {name}: .dockerignore leaves it out, or it is not there"
                    )


def _files() -> list[str]:
    """What is in the checkout, without what git ignores; all of it where it is none."""
    told = ["git", "ls-files", "-co", "--exclude-standard"]
    with suppress(OSError, subprocess.CalledProcessError):
        done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()
    return [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]


def _run(told: list[tuple[str, str]], folder: Path) -> None:
    settings, state = folder / "etc", folder / "var"
    settings.mkdir()
    state.mkdir()
    (settings / "config.yaml").write_text(
        f"control: {{endpoints: ['tcp:5555:interface={HOST}']}}\n"
        f"data: {{interface: {HOST}}}\nhttp: {{endpoint: 'tcp:8080:interface={HOST}'}}\n"
        "relay: {zmq_start_port: 30101, zmq_end_port: 30102}\n"
    )
    settings.chmod(0o755)
    user = NOBODY if os.geteuid() == 0 and _may_run(NOBODY) else None
    secrets = state / "secrets.json"
    if user is not None:
        os.chown(state, user, user)
    environment = _clean() | {
        "PATH": f"{folder / 'relayx' / 'bin'}:{os.environ['PATH']}",
        "RELAY_CONFIG": str(settings / "config.yaml"),
        "RELAYX_GATEWAY": f"{HOST}:5555",
        "RELAYX_ADMIN": f"http://{HOST}:8080",
    }
    how: dict[str, Any] = {"cwd": state, "env": environment, "user": user}

    def words(text: str) -> list[str]:
        found = json.loads(text[text.index("[") :])
        return [word.replace("/etc/relay-x/secrets.json", str(secrets)) for word in found]

    last = dict(told)
    health = words(last["HEALTHCHECK"])
    subprocess.run(
        ["relayx", "init", "--secret-only", "--env-file", str(secrets)], check=True, **how
    )
    print("CMD", *words(last["CMD"]), flush=True)
    gateway = subprocess.Popen(words(last["CMD"]), **how)
    try:
        deadline = time.monotonic() + DEADLINE
        while subprocess.run(health, stdout=subprocess.DEVNULL, check=False, **how).returncode:
            if time.monotonic() > deadline or gateway.poll() is not None:
                raise SystemExit("the health check does not pass")
        print("HEALTHCHECK passes", flush=True)
        _exchange(secrets, how)
        gateway.send_signal(signal.SIGTERM)
        if gateway.wait(DEADLINE):
            raise SystemExit(f"the gateway ended with status {gateway.returncode}")
    finally:
        if gateway.poll() is None:
            gateway.kill()
    if not subprocess.run(health, capture_output=True, check=False, **how).returncode:
        raise SystemExit("the health check passes without a gateway")


def _may_run(user: int) -> bool:
    """Whether another user can run this Python, which may be in somebody's home."""
    try:
        subprocess.run([sys.executable, "-c", ""], user=user, cwd="/", check=True)
    except (OSError, subprocess.CalledProcessError):
        print("another user cannot run this Python: it stays this one", flush=True)
        return False
    return True


def _exchange(secrets: Path, how: dict[str, Any]) -> None:
    """Send a file from a front end to a back end."""
    content = os.urandom(1 << 20)
    named = ["--env-file", str(secrets)]
    with tempfile.TemporaryFile() as received:
        receiver = subprocess.Popen(["relayx", "recv", *named], stdout=received, **how)
        try:
            send = ["relayx", "send", "-", *named]
            subprocess.run(send, input=content, check=True, timeout=DEADLINE, **how)
            status = receiver.wait(DEADLINE)
        finally:
            if receiver.poll() is None:
                receiver.kill()
        received.seek(0)
        if status or received.read() != content:
            raise SystemExit("what came is not what was sent")
    print("a front end and a back end exchange bytes", flush=True)


def _clean() -> dict[str, str]:
    unwanted = ("RELAY", "PYTHON", "VIRTUAL_ENV", "COVERAGE")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


if __name__ == "__main__":
    main()
