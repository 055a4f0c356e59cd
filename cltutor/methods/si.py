"""Synaptic intelligence: hold on to the weights that made the loss fall.

Idea. As in EWC a spring holds every weight, as stiff as the weight was important. Importance is
here counted while learning: how much of the loss's fall is owed to the way that the weight went.
Nothing has to be measured afterwards.

Loss. On a batch (x, y) of the current experience, with solver f and its weights theta,
    (1)  L    = CE(f(x), y) + keep                       "new"
    (2)  keep = lam sum_i Omega_i (theta_i - theta*_i)^2     "keep"
    (3)  Omega_i = sum of max(0, W_i) / ((theta_i - theta0_i)^2 + xi)  over past experiences
    (4)  W_i  = - sum over steps of dCE/dtheta_i times the change of theta_i in the step
CE is the mean over the batch, in nats; theta* are the weights at the end of the experience before,
theta0 those at the beginning of the experience whose W is taken, theta at its end. The gradient in
Eq. 4 is that of CE alone, and the change is what the optimiser made of all of L.

Carried. The solver's weights, which are the next theta* and theta0; the sum Omega (role
`importance`); how many experiences were seen. No real samples.

Toggle. `lam`: 0 is fine-tuning.

Deviations. Negative W count 0, as in their code. The optimiser starts anew at each experience.

Reference. Zenke, Poole & Ganguli 2017, Eq. 3 to 5 (their c is lam).
"""

from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F

from cltutor.nets.solver import Net, make_solver
from cltutor.seeds import build, split_seed, state
from cltutor.stream import Tick, batches, visible


@dataclass(frozen=True)
class Config:
    steps: int = field(default=500, metadata=dict(source="ours; per experience", range=(1, 10**5)))
    batch: int = field(default=64, metadata=dict(source="ours", range=(1, 4096)))
    lr: float = field(default=1e-3, metadata=dict(source="Zenke 2017", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    hidden: int = field(default=100, metadata=dict(source="ours; per layer", range=(1, 4096)))
    net: Net = "mlp"  # nets/solver.py
    lam: float = field(default=10.0, metadata=dict(source="ours; a grid, below", range=(0.0, 1e9)))
    xi: float = field(default=0.1, metadata=dict(source="Zenke 2017", range=(1e-9, 1e3)))


# lam: the best of 0.1, 1, ..., 1000 in the task scenario with seed 10, which no record contains.
PRESETS: dict[str, dict] = {}
PROFILES = {"quick": ("split-digits", {})}
PROFILES["laptop"] = ("split-mnist", dict(steps=2000, batch=128, hidden=400))
PROFILES["paper"] = PROFILES["laptop"]  # the published protocol takes minutes on a laptop


def owed(W, moved, xi) -> torch.Tensor:
    """One summand of Eq. 3 for weights of any shape: W and how far they went, moved."""
    return W.clamp(min=0) / (moved.square() + xi)


def keep(solver, anchor, importance, lam) -> torch.Tensor:
    """Eq. 2, summed over all weights: `anchor` and `importance` are {name: tensor}; 0-d."""
    theta = dict(solver.named_parameters())
    return lam * sum((importance[n] * (theta[n] - anchor[n]) ** 2).sum() for n in theta)


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
        anchor = state(solver)
        importance = {name: torch.zeros_like(weight) for name, weight in anchor.items()}
        if seen:
            importance = {name: omega.to(device) for name, omega in carried["importance"].items()}
        W = {name: torch.zeros_like(weight) for name, weight in anchor.items()}
        rng = split_seed(cfg.seed, exp.k, "batches")
        optimizer = torch.optim.Adam(solver.parameters(), lr=cfg.lr)
        for step, (x, y) in enumerate(
            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)
        ):
            loss = F.cross_entropy(visible(solver(x), exp.classes, stream.scenario), y)
            losses, before = {"new": loss}, state(solver)
            slope = torch.autograd.grad(loss, list(solver.parameters()), retain_graph=True)
            if seen:
                losses["keep"] = keep(solver, anchor, importance, cfg.lam)
                loss = loss + losses["keep"]  # Eq. 1
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for (name, weight), g in zip(solver.named_parameters(), slope, strict=True):
                W[name] -= g * (weight.detach() - before[name])  # Eq. 4
            yield Tick(exp.k, step + 1, cfg.steps, losses, learner)
        for name, weight in state(solver).items():
            importance[name] = importance[name] + owed(W[name], weight - anchor[name], cfg.xi)
        # What survives to the next experience
        carried = {"solver": state(solver), "importance": importance, "seen": seen + 1}
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
