"""Fine-tuning: train on each experience as it comes, and watch the past go.

Idea. The lower bound, and the file that all others are read against: nothing is done about
forgetting.

Loss. On a batch (x, y) of the current experience, with solver f,
    (1)  L = CE(f(x), y)                              "new"
mean over the batch, in nats.

Carried. The solver's weights; how many experiences they were trained on. No real samples.

Toggle. None.

Deviations. The optimiser starts anew at each experience (everywhere in this kit). Preset "hess":
group norm, no augmentation, and Adam in place of AdamW, whose weight decay of 5e-4 would shrink the
weights by 1 % over all ten experiences.

Reference. McCloskey & Cohen 1989; "None" in van de Ven, Tuytelaars & Tolias 2022, Table 2; "hess":
Hess et al. 2023, CIFAR-100 in ten experiences.
"""

from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F

from cltutor.nets.solver import CIFAR, MAPS, NARROW, AnyNet, make_solver
from cltutor.seeds import build, split_seed, state
from cltutor.stream import Tick, batches, visible


@dataclass(frozen=True)
class Config:
    steps: int = field(default=500, metadata=dict(source="ours; per experience", range=(1, 10**5)))
    batch: int = field(default=64, metadata=dict(source="ours", range=(1, 4096)))
    lr: float = field(default=1e-3, metadata=dict(source="van de Ven 2022", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    hidden: int = field(default=100, metadata=dict(source="ours; per layer", range=(1, 4096)))
    net: AnyNet = "mlp"  # nets/solver.py


PRESETS = {"vandeven": dict(steps=2000, batch=128, hidden=400), "narrow": NARROW}
PRESETS["narrow-mnist"] = NARROW | dict(steps=1000, batch=128)
PRESETS["conv"] = dict(net="conv", hidden=64, steps=400)
PRESETS |= {"cifar": CIFAR, "maps": MAPS, "joint": MAPS | dict(steps=3000)}
PRESETS["hess"] = dict(net="resnet", hidden=512, steps=1950, batch=128)  # 50 passes of CIFAR-100
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
        learner = networks(stream, cfg, device, carried)
        solver = learner["solver"]
        seen = 0 if carried is None else carried["seen"]
        rng = split_seed(cfg.seed, exp.k, "batches")
        optimizer = torch.optim.Adam(solver.parameters(), lr=cfg.lr)
        for step, (x, y) in enumerate(
            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)
        ):
            loss = F.cross_entropy(visible(solver(x), exp.classes, stream.scenario), y)  # Eq. 1
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield Tick(exp.k, step + 1, cfg.steps, {"new": loss}, learner)
        # What survives to the next experience
        carried = {"solver": state(solver), "seen": seen + 1}
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
