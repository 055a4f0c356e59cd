"""What notebooks take of a machine's memory, all processes together, as on Binder.

    python benchmarks/memory.py [00 01 ...]

Prints for each notebook (default: all) in `quick`, from an empty cache, the largest amount that
its kernel and the workers of its fits held at one time, in MB: what each has for itself, and once
what they share, such as PyTorch's libraries. JupyterLab comes on top. `peak_mb` of a record, which
the README shows, is that of the largest single process.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time

import psutil

from cltutor import notebook

EVERY = 0.2  # seconds between looks


def held(process: psutil.Process) -> float:
    """MB that all processes below `process` hold now."""
    own, shared = 0, [0]
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            memory = child.memory_full_info()
            own += memory.uss
            shared.append(memory.rss - memory.uss)
    return (own + max(shared)) / 2**20


def peak(name: str) -> float:
    """The most MB that the kernel of a notebook and its workers hold while it runs."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cltutor.cli", "run", name, "--out", folder]
        env = os.environ | {"CLTUTOR_CACHE": f"{folder}/cache"}
        run = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        process, most = psutil.Process(run.pid), 0.0
        while run.poll() is None:
            most = max(most, held(process))
            time.sleep(EVERY)
    if run.returncode:
        raise SystemExit(f"{name} ended with status {run.returncode}: see above")
    return most


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="notebooks; all without")
    for name in parser.parse_args().names or notebook.names():
        print(f"{name}: {peak(name):.0f} MB", flush=True)
