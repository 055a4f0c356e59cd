"""Where submissions run: in Linux name spaces, in a container, or, on request, unprotected.

`run(job)` of each gives what the student's process sent, and how it ended.
"""

import contextlib
import json
import os
import secrets
import select
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from cltutor.course.limits import Limits
from cltutor.errors import UserError

LONGEST = 4 * 2**20  # bytes of answers that are read; a right answer has far fewer
PATIENCE = 20.0  # seconds beyond the limit, for starting and ending
KIT = Path(__file__).parents[2]
NAME = "{name}"  # in a command: of the container, another each time
PROBE = {"source": "def f(x):\n    return x + 1", "function": "f", "calls": {"probe": [[1]]}}
SERVE = "import sys; sys.path[:0] = [{!r}]; from cltutor.course.{} import {}; {}()"


class Namespaces:
    """Isolation by user name spaces; `with Namespaces(limits) as place:`.

    Raises UserError on entering where the system does not allow it.
    """

    name = "Linux namespaces and limits: read-only root, own scratch folder, no network"

    def __init__(self, limits: Limits):
        self.limits = limits

    def __enter__(self):
        if sys.platform != "linux":
            raise UserError(f"no namespaces on {sys.platform}: {OTHERWISE}")
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", "-c", SERVE.format(str(KIT), "nursery", "main", "main")]
        with theirs:
            self.nursery = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=bare(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        answers, end = self.run(PROBE)
        if answers != [{"test": "probe", "call": 0, "answer": 2}]:
            self.__exit__()
            raise UserError(
                f"namespaces do not work here ({end.get('why', 'no answer')}): {OTHERWISE}"
            )
        return self

    def __exit__(self, *error):
        self.control.close()
        try:
            self.nursery.wait(5)
        except subprocess.TimeoutExpired:
            self.nursery.kill()
            self.nursery.wait()

    def run(self, job: dict) -> tuple[list, dict]:
        """(answers, {"end": "done", "time", "memory", "killed" or "refused"})."""
        mine, theirs = socket.socketpair()
        line, keeper = socket.socketpair()
        deadline = time.monotonic() + self.limits.seconds + PATIENCE
        with mine, line:
            with theirs, keeper:
                try:
                    message = json.dumps(asdict(self.limits)).encode()
                    socket.send_fds(self.control, [message], [theirs.fileno(), keeper.fileno()])
                except OSError:
                    return [], {"end": "refused", "why": "the nursery has ended"}
            text = talk(mine, job, deadline)
            told = read(line, deadline, 4096)
            read(self.control, deadline, 1, once=True)
        ends = told.decode(errors="replace").replace("}{", "}\n{").splitlines()
        return parsed(text), json.loads(ends[0]) if ends else {"end": "killed"}


class Process:
    """A process of its own: in a container, or as the user that grades."""

    def __init__(self, limits: Limits, command: list[str], name: str):
        self.limits, self.command, self.name = limits, command, name

    def __enter__(self):
        answers, end = self.run(PROBE)
        if answers != [{"test": "probe", "call": 0, "answer": 2}]:
            raise UserError(
                f"{self.command[0]} does not run a function ({end.get('why', 'no answer')})."
            )
        return self

    def __exit__(self, *error):
        pass

    def run(self, job: dict) -> tuple[list, dict]:
        """(answers, {"end": ...}), as of `Namespaces.run`."""
        options = {"start_new_session": True} if os.name != "nt" else {}
        name = f"cltutor-{secrets.token_hex(8)}"
        command = [word.replace(NAME, name) for word in self.command]
        with tempfile.TemporaryDirectory() as folder:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env=bare() if self.command[0] == sys.executable else None,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    **options,
                )
            except OSError as error:
                return [], {"end": "refused", "why": str(error)}
            try:
                text, _ = process.communicate(
                    json.dumps(job).encode() + b"\n", self.limits.seconds + PATIENCE / 2
                )
                end = "done" if process.returncode == 0 else "killed"
            except subprocess.TimeoutExpired as error:
                if command != self.command:  # a container outlives whoever has started it
                    subprocess.run([command[0], "kill", name], capture_output=True)
                _end(process)
                text, end = error.stdout or b"", "time"
        return parsed(text[:LONGEST]), {"end": end}


OTHERWISE = (
    "grade with --container docker or podman, or, if you trust every submission as you trust "
    "yourself, with --trust."
)


def trusted(limits: Limits) -> Process:
    """No isolation at all: a process of the user that grades, with a time limit."""
    command = [sys.executable, "-I", "-c", SERVE.format(str(KIT), "runner", "serve", "serve")]
    return Process(limits, command, "NONE: submissions run as you, with your files and network")


def container(limits: Limits, tool: str, image: str) -> Process:
    """A fresh container for every job; `image` has python with this kit."""
    command = [
        *(tool, "run", "--rm", f"--name={NAME}", "--interactive", "--network=none", "--read-only"),
        *("--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=65534:65534"),
        *(f"--tmpfs=/scratch:size={limits.scratch}m", "--workdir=/scratch", "--cpus=1"),
        *(f"--memory={limits.memory + 1024}m", f"--memory-swap={limits.memory + 1024}m"),
        *(f"--pids-limit={limits.processes + 8}", f"--ulimit=cpu={int(limits.seconds) + 5}"),
        *(image, "python", "-m", "cltutor.course.runner"),
    ]
    return Process(limits, command, f"{tool}: read-only, no network, limits; image {image}")


def bare() -> dict[str, str]:
    """An environment that holds no secret."""
    kept = ("PATH", "LANG", "SYSTEMROOT", "LD_LIBRARY_PATH")
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return {name: os.environ[name] for name in kept if name in os.environ} | threads


def talk(mine: socket.socket, job: dict, deadline: float) -> bytes:
    """Send the job, and read while sending, since the child may write before it reads."""
    rest, text = memoryview(json.dumps(job).encode() + b"\n"), b""
    mine.setblocking(False)
    while len(text) < LONGEST:
        wait = deadline - time.monotonic()
        readers, writers, _ = select.select([mine], [mine] if rest else [], [], max(0, wait))
        if not readers and not writers:
            break
        try:
            if writers:
                rest = rest[mine.send(rest) :]
            if readers:
                part = mine.recv(65536)
                if not part:
                    break
                text += part
        except BlockingIOError:
            continue
        except OSError:
            break
    return text


def read(one: socket.socket, deadline: float, most: int, once: bool = False) -> bytes:
    """What comes until the other side closes (or one message), up to the deadline."""
    text = b""
    with contextlib.suppress(OSError):
        while len(text) < most:
            one.settimeout(max(0.01, deadline - time.monotonic()))
            part = one.recv(4096)
            text += part
            if not part or once:
                break
    return text


def parsed(text: bytes) -> list:
    """The lines that are JSON objects; the others are no answers."""
    found = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _end(process: subprocess.Popen) -> None:
    if os.name != "nt":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
    process.kill()
    process.wait()
