"""A toy stream, and a fit on it that is killed at ten random moments.

As a script (`python tests/kill_fit.py FOLDER`) it fits dgr once undisturbed with the cache
FOLDER/whole, then with FOLDER/killed in children that get SIGKILL, then to the end. The children
are forked from one process that has imported torch; it prints what it did as JSON.
"""

import json
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import torch

from cltutor import recipe
from cltutor.methods import dgr
from cltutor.stream import Stream

KILLS, STEPS = 10, 12


def toy_stream(experiences: int = 3, scenario: str = "class", seed: int = 0) -> Stream:
    """Two classes per experience, each a random 3x3 pattern with noise: 24 images to train on."""
    rng = torch.Generator().manual_seed(seed)
    patterns = torch.randint(0, 200, (2 * experiences, 1, 3, 3), generator=rng)
    parts = []
    for k in range(experiences):
        part = {"classes": (2 * k, 2 * k + 1), "permutation": None}
        for end, n in (("", 24), ("_test", 10)):
            y = torch.arange(n) % 2 + 2 * k
            noise = torch.randint(0, 56, (n, 1, 3, 3), generator=rng)
            part["x" + end], part["y" + end] = (patterns[y] + noise).to(torch.uint8), y
        parts.append(part)
    return Stream("toy", scenario, 2 * experiences, (1, 3, 3), tuple(parts))


def fit():
    """The fit that is killed."""
    cfg = dgr.Config(steps=STEPS, batch=8, hidden=8, vae_hidden=8, latent=2)
    return recipe.fit("dgr", toy_stream(experiences=6), cfg)


def tell(pipe: int) -> None:
    """Write a byte at every tick, and before and after a checkpoint gets its name."""
    run, replace = dgr.run, os.replace

    def telling_run(*args, **options):
        for tick in run(*args, **options):
            os.write(pipe, b".")
            yield tick

    def telling_replace(*args):
        os.write(pipe, b"<")
        replace(*args)
        os.write(pipe, b">")

    dgr.run, os.replace = telling_run, telling_replace


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ["CLTUTOR_CACHE"] = str(folder / "whole")
    whole = fit()
    os.environ["CLTUTOR_CACHE"] = str(folder / "killed")
    rng, left, finished = random.Random(0), [], 0
    while len(left) < KILLS:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            tell(write)
            fit()
            os._exit(0)
        os.close(write)
        # An experience is STEPS + 3 bytes, so about one child in four leaves a new checkpoint.
        alive = all(os.read(read, 1) for _ in range(rng.randint(1, 4 * STEPS // 3)))
        os.kill(child, signal.SIGKILL)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        os.close(read)
        if alive and killed:
            left.append(len(list((folder / "killed").rglob("[0-9]*.safetensors"))))
        else:  # it came to its end first: start over
            finished += 1
            shutil.rmtree(folder / "killed")
    result = fit()
    same = bool((result.R == whole.R).all())
    print(json.dumps({"left": left, "finished": finished, "same": same,
                      "whole": str(whole.folder), "killed": str(result.folder)}))  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
