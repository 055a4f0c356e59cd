"""Where calls are made side by side: in processes of this machine, or on a Dask cluster.

An engine takes a function and {name: argument} and gives (name, what the function returned) as the
calls end. Functions go by name, arguments and results over a pipe or Dask's wire: no worker needs a
disk that others see. A worker that is killed costs its own call, which is made again.
"""

import multiprocessing
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait

from cltutor.errors import UserError

ATTEMPTS = 3  # at a call whose process ends under it
PATIENCE = 20  # seconds for a scheduler to answer
Outcomes = Iterator[tuple[str, dict]]


def processes(n: int) -> Callable[[Callable, dict], Outcomes]:
    """The engine of up to `n` spawned processes side by side.

    One process and one pipe per worker, since an executor breaks as a whole, and loses every call,
    when one of its processes is killed. Ctrl-C is answered here alone. They end with this process.
    """

    def engine(call: Callable, jobs: dict) -> Outcomes:
        waiting, lost, idle, busy = deque(jobs), Counter(), [], {}
        try:
            while waiting or busy:
                while waiting and len(busy) < n:
                    process, pipe = idle.pop() if idle else _start(call)
                    busy[pipe] = process, waiting.popleft()
                    with suppress(OSError):  # it ended while idle: `wait` tells
                        pipe.send(jobs[busy[pipe][1]])
                for pipe in wait(list(busy)):
                    process, name = busy.pop(pipe)
                    try:
                        outcome = pipe.recv()
                        idle.append((process, pipe))
                    except (EOFError, OSError):
                        process.join()
                        lost[name] += 1
                        why = f"its process ended with {process.exitcode}"
                        if lost[name] < ATTEMPTS:
                            print(f"{name}: {why}, computed again", file=sys.stderr)
                            waiting.append(name)
                            continue
                        outcome = {"failed": f"{why}, {lost[name]} times: enough memory?"}
                    yield name, outcome
        finally:
            for _, pipe in idle:
                pipe.close()  # and it ends by itself
            for process, _ in busy.values():  # stopped by Ctrl-C, or by a full disk
                process.terminate()
            for process, _ in [*idle, *busy.values()]:
                process.join()

    return engine


def _start(call: Callable) -> tuple[multiprocessing.Process, Connection]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(call, theirs), daemon=True)
    if threading.current_thread() is threading.main_thread():  # others may not
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a process inherits this
        process.start()
        signal.signal(signal.SIGINT, before)
    else:
        process.start()
    theirs.close()  # so that the end of the process is the end of the pipe
    return process, ours


def _serve(call: Callable, pipe: Connection) -> None:
    """What a worker does until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it is not inherited
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # leaves nothing behind
    with suppress(EOFError, OSError):
        while True:
            pipe.send(call(pipe.recv()))


@contextmanager
def cluster(address: str) -> Iterator[Callable[[Callable, dict], Outcomes]]:
    """The engine of an existing Dask cluster, such as "tcp://127.0.0.1:8786", while in the context.

    A call whose worker is lost goes to another worker, as often as the scheduler's setting
    `distributed.scheduler.allowed-failures` says (3); then it has failed.

    Raises:
        UserError: Dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise UserError(
            "--scheduler needs Dask: install the kit with its extra, cltutor[cluster]."
        ) from None
    try:
        client = Client(address, timeout=PATIENCE)
    except (OSError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"no Dask scheduler answers at {address} ({reason}).") from None

    def engine(call: Callable, jobs: dict) -> Outcomes:
        workers = client.scheduler_info()["workers"].values()
        if not workers:
            print(f"{address} has no workers yet: waiting for them.", file=sys.stderr)
        if any(worker["nthreads"] > 1 for worker in workers):
            print(
                "A worker computes one cell at a time: start them with 1 thread.", file=sys.stderr
            )
        names = {client.submit(call, job, pure=False): name for name, job in jobs.items()}
        for future in as_completed(names):
            name = names.pop(future)  # and with it the cluster's copy of the result
            yield name, _outcome(future)

    with client:
        yield engine


def _outcome(future) -> dict:
    try:
        return future.result()
    except Exception as error:  # the worker was lost too often, or the scheduler is gone
        return {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
