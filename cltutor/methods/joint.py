"""Joint training: keep every image and learn all experiences so far at once.

Idea. The upper bound: what the network reaches when nothing is taken away. After each experience
it is trained from scratch on all real data so far, with as many steps as a sequential method has
had by then, so that row i of R compares equal numbers of steps.

Loss. On a batch (x, y) of everything seen so far, with solver f,
    (1)  L = CE(f(x), y)                              "new"
mean over the batch, in nats.

Carried. All real samples so far, as 8-bit pixels (role `buffer`); which classes have met; the
solver's weights, for evaluation only; how many experiences have been seen.

Toggle. None.

Deviations. The images of past experiences are rounded to 8 bits, as an image file would.

Reference. "Joint" in van de Ven, Tuytelaars & Tolias 2022, Table 2, which is our last row of R.
"""

from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F

from cltutor.nets.solver import NARROW, Net, make_solver
from cltutor.seeds import build, split_seed, state
from cltutor.stream import Tick, batches, keep, mates, visible


@dataclass(frozen=True)
class Config:
    steps: int = field(default=500, metadata=dict(source="ours; per experience", range=(1, 10**5)))
    batch: int = field(default=64, metadata=dict(source="ours", range=(1, 4096)))
    lr: float = field(default=1e-3, metadata=dict(source="van de Ven 2022", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    hidden: int = field(default=100, metadata=dict(source="ours; per layer", range=(1, 4096)))
    net: Net = "mlp"  # nets/solver.py


PRESETS = {"vandeven": dict(steps=2000, batch=128, hidden=400), "narrow": NARROW}
PROFILES = {"quick": ("split-digits", {}), "laptop": ("split-mnist", PRESETS["vandeven"])}
PROFILES["paper"] = PROFILES["laptop"]  # the published protocol takes minutes on a laptop


def networks(stream, cfg, device="cpu", carried=None):
    """The learner: untrained, or as `carried` left it."""
    make = partial(make_solver, cfg.net, stream.shape, stream.n_classes, cfg.hidden)
    solver = build("solver", make, cfg.seed, device, carried)
    return {"solver": solver, "features": solver.body}


def run(stream, cfg, *, device="cpu", carried=None):
    """Learn the stream; yield a tick per optimiser step and an end tick per experience."""
    for exp in stream:
        # What this experience starts from
        learner = networks(stream, cfg, device)
        solver = learner["solver"]
        seen = 0 if carried is None else carried["seen"]
        rng = split_seed(cfg.seed, exp.k, "batches")
        optimizer = torch.optim.Adam(solver.parameters(), lr=cfg.lr)
        known = mates(exp.classes, stream.n_classes, carried and carried["classes"])
        x_all, y_all, steps = exp.x, exp.y, cfg.steps * (seen + 1)
        if carried is not None:
            x_all = torch.cat([carried["buffer"]["x"] / 255, exp.x])
            y_all = torch.cat([carried["buffer"]["y"], exp.y])
        for step, (x, y) in enumerate(
            batches(x_all, y_all, cfg.batch, steps, rng["batches"], device)
        ):
            heads = known.to(device)[y]
            loss = F.cross_entropy(visible(solver(x), heads, stream.scenario), y)  # Eq. 1
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield Tick(exp.k, step + 1, steps, {"new": loss}, learner)
        # What survives to the next experience
        buffer = carried and carried["buffer"]
        carried = {"solver": state(solver), "seen": seen + 1, "classes": known}
        carried["buffer"] = keep(buffer, exp.x, exp.y)
        yield Tick(exp.k, steps, steps, {}, learner, carried)
