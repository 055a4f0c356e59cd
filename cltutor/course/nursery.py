"""One process that has torch loaded and forks an isolated child for every job, in milliseconds.

It is started with an empty environment and learns nothing of the course: a job goes from the grader
to the child through a socket that the nursery only passes on. A keeper outside the child's name
spaces watches time and memory, and says how it ended over a line that the child does not have.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import psutil

from cltutor.course import isolate, runner
from cltutor.course.limits import Limits

INTERVAL = 0.02  # seconds between two looks at a child


def main() -> None:
    """Serve: every message is the limits of a job and two sockets, answers and end."""
    isolate.die_with_parent()
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    runner.torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="cltutor-root-") as root:
        while True:
            message, sockets, _, _ = socket.recv_fds(control, 4096, 2)
            if not message:
                return
            keeper = os.fork()
            if keeper == 0:
                _keep(root, control, sockets, Limits(**json.loads(message)))
            for one in sockets:
                os.close(one)
            os.waitpid(keeper, 0)
            control.send(b".")


def _keep(root: str, control: socket.socket, sockets: list[int], limits) -> None:
    """Start the child and watch it; never returns."""
    answers, line = sockets
    end = {"end": "refused"}
    try:
        isolate.die_with_parent()
        control.close()
        isolate.unshare_user()
        child = os.fork()
        if child == 0:
            _live(root, answers, line, limits)
        end = {"end": "killed"}  # a child that is there cannot make it look refused
        os.close(answers)
        end = _watch(child, limits)
    except OSError as error:
        end |= {"why": str(error)}
    finally:
        os.write(line, json.dumps(end).encode())
        os._exit(0)


def _live(root: str, answers: int, line: int, limits) -> None:
    """The child: go in, run the job, never return. Whether it went in, it says before the job."""
    entered = False
    try:
        hidden = (str(Path(__file__).parent),)  # the sources of variants and of grading
        isolate.enter(root, hidden, limits)
        entered = True
        os.dup2(answers, 0)
        os.dup2(answers, 1)
        os.closerange(3, 4096)
        runner.serve()
    except OSError as error:
        if not entered:
            os.write(line, json.dumps({"end": "refused", "why": str(error)}).encode())
    finally:
        os._exit(0)


def _watch(child: int, limits) -> dict:
    """How the child ended: "done", "time", "memory" or "killed"."""
    start, base, end = time.monotonic(), None, None
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        if end is None and time.monotonic() - start > limits.seconds:
            end = "time"
        used = _private(child)
        base = used if base is None else base
        if end is None and used > base + limits.memory * 2**20:
            end = "memory"
        if end:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)  # and with it its whole name space
        time.sleep(INTERVAL)
    return {"end": end or ("done" if status == 0 else "killed")}


def _private(child: int) -> int:
    """Bytes that the child and all that it started have for themselves."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(child)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                memory = one.memory_info()
                total += memory.rss - memory.shared
    return total
