"""GDumb: keep a small balanced set of real images, and learn from it alone, from scratch.

Idea. A question more than a method: how far does one get by storing as many images of every class
as fit, and forgetting all else on purpose? Whatever claims to remember has to beat that.

Loss. On a batch (x, y) of the memory, with a solver f that starts anew after every experience,
    (1)  L = CE(f(x), y)                              "new"
mean over the batch, in nats.
The memory of M images is filled greedily (`greedy`, Algorithm 1): a class may take up to
    (2)  floor(M / number of classes met so far)
places; when all are taken, an image of the largest class makes room. It balances labels alone:
where they come back in every experience (domain scenario), the first one keeps all places.

Carried. The memory, real samples as 8-bit pixels with labels (role `buffer`); which classes have
met; the solver's weights, for evaluation only; how many experiences were seen.

Toggle. `memory`: how many images. `shift`: 0 leaves the images where they are.

Deviations. Adam, a fixed number of steps and the network of all other methods, for SGD with warm
restarts on an MLP with batch norm. Images may be moved by up to `shift` pixels (their random crop
with padding); no CutMix. The authors' code reports the best pass by test accuracy; ours the last.

Reference. Prabhu, Torr & Dokania 2020, section 3, Algorithm 1; their code for the settings.
"""

from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F

from cltutor.nets.mlp import MLP
from cltutor.seeds import build, split_seed, state
from cltutor.stream import Tick, batches, keep, mates, visible


@dataclass(frozen=True)
class Config:
    steps: int = field(default=500, metadata=dict(source="ours; per experience", range=(1, 10**5)))
    batch: int = field(default=64, metadata=dict(source="ours", range=(1, 4096)))
    lr: float = field(default=1e-3, metadata=dict(source="van de Ven 2022", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    hidden: int = field(default=100, metadata=dict(source="ours; per layer", range=(1, 4096)))
    memory: int = field(default=100, metadata=dict(source="ours; images", range=(1, 10**6)))
    shift: int = field(default=0, metadata=dict(source="ours; pixels", range=(0, 16)))


PRESETS = {"vandeven": dict(steps=2000, batch=128, hidden=400)}
PRESETS["published"] = PRESETS["vandeven"] | dict(memory=4400, shift=4)
PROFILES = {"quick": ("split-digits", {}), "laptop": ("split-mnist", PRESETS["published"])}
PROFILES["paper"] = PROFILES["laptop"]  # the published protocol takes minutes on a laptop


def greedy(y: list[int], memory: int, kept: int, rng: torch.Generator) -> list[int]:
    """Algorithm 1: which of the samples to keep, as indices into their labels `y`, in any order.

    The first `kept` are in the memory of size `memory` already; the others arrive one by one.
    """
    places: dict[int, list[int]] = {}
    for i, c in enumerate(y):
        new = c not in places
        mine = places.setdefault(c, [])
        if i >= kept and not new and len(mine) >= memory // len(places):
            continue  # Eq. 2
        if sum(map(len, places.values())) >= memory:
            largest = max(places.values(), key=len)
            largest.pop(int(torch.randint(len(largest), (), generator=rng)))
        mine.append(i)
    return [i for indices in places.values() for i in indices]


def shifted(x, most: int, rng: torch.Generator) -> torch.Tensor:
    """Every image of x (B, C, H, W) moved by up to `most` pixels each way, zeros moving in."""
    if not most:
        return x
    (B, _, H, W), padded = x.shape, F.pad(x, (most,) * 4)
    down, right = torch.randint(2 * most + 1, (2, B, 1), generator=rng).to(x.device)
    rows = down + torch.arange(H, device=x.device)
    columns = right + torch.arange(W, device=x.device)
    images = torch.arange(B, device=x.device)[:, None, None]
    return padded[images, :, rows[:, :, None], columns[:, None]].movedim(3, 1)


def networks(stream, cfg, device="cpu", carried=None):
    """The learner: untrained, or as `carried` left it."""
    make = partial(MLP, stream.shape, stream.n_classes, cfg.hidden)
    solver = build("solver", make, cfg.seed, device, carried)
    return {"solver": solver, "features": solver.body}


def run(stream, cfg, *, device="cpu", carried=None):
    """Learn the stream; yield a tick per optimiser step and an end tick per experience."""
    for exp in stream:
        # What this experience starts from
        learner = networks(stream, cfg, device)
        solver = learner["solver"]
        seen = 0 if carried is None else carried["seen"]
        rng = split_seed(cfg.seed, exp.k, "batches", "arrival", "room", "shift")
        optimizer = torch.optim.Adam(solver.parameters(), lr=cfg.lr)
        known = mates(exp.classes, stream.n_classes, carried and carried["classes"])
        arrival = torch.randperm(len(exp.y), generator=rng["arrival"])
        pool = keep(carried and carried["buffer"], exp.x[arrival], exp.y[arrival])
        kept = len(pool["y"]) - len(exp.y)
        pick = greedy(pool["y"].tolist(), cfg.memory, kept, rng["room"])
        buffer = {name: tensor[pick] for name, tensor in pool.items()}
        for step, (x, y) in enumerate(
            batches(buffer["x"] / 255, buffer["y"], cfg.batch, cfg.steps, rng["batches"], device)
        ):
            heads = known.to(device)[y]
            x = shifted(x, cfg.shift, rng["shift"])
            loss = F.cross_entropy(visible(solver(x), heads, stream.scenario), y)  # Eq. 1
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield Tick(exp.k, step + 1, cfg.steps, {"new": loss}, learner)
        # What survives to the next experience
        carried = {"solver": state(solver), "seen": seen + 1, "classes": known, "buffer": buffer}
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
