"""Memory aware synapses: hold on to the weights that the network's answers are sensitive to.

Idea. As in EWC a spring holds every weight, as stiff as the weight was important. Important is here
what moves the length of the network's output, whatever the label: no label, and no probability, is
needed to measure it, so any images will do.

Loss. On a batch (x, y) of the current experience, with solver f and its weights theta,
    (1)  L    = CE(f(x), y) + keep                       "new"
    (2)  keep = lam sum_i Omega_i (theta_i - theta*_i)^2     "keep"
    (3)  Omega_i = mean_x |d |f(x)|^2 / d theta_i|
CE is the mean over the batch, in nats; theta* are the weights at the end of the experience before;
|f|^2 is the sum of the squared logits that are visible. Eq. 3 is summed over the past experiences
and taken at the end of each, with the absolute value of every single image's gradient.

Carried. The solver's weights, which are the next theta*; the sum of Omega (role `importance`); how
many experiences were seen. No real samples.

Toggle. `lam`: 0 is fine-tuning.

Deviations. lam is ours, found as EWC's was. The mean is over at most `images` images, drawn anew.

Reference. Aljundi et al. 2018, section 4.1, Eq. 2 to 4 (the global version).
"""

from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, vmap

from cltutor.nets.solver import Net, make_solver
from cltutor.seeds import build, split_seed, state
from cltutor.stream import Tick, batches, visible


@dataclass(frozen=True)
class Config:
    steps: int = field(default=500, metadata=dict(source="ours; per experience", range=(1, 10**5)))
    batch: int = field(default=64, metadata=dict(source="ours", range=(1, 4096)))
    lr: float = field(default=1e-3, metadata=dict(source="van de Ven 2022", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    hidden: int = field(default=100, metadata=dict(source="ours; per layer", range=(1, 4096)))
    net: Net = "mlp"  # nets/solver.py
    lam: float = field(default=0.01, metadata=dict(source="ours; a grid, below", range=(0.0, 1e9)))
    images: int = field(default=500, metadata=dict(source="ours", range=(1, 10**5)))


# lam: the best of 0.001, 0.01, 0.1, 1 in the task scenario with seed 10, which no record contains.
PRESETS: dict[str, dict] = {}
PROFILES = {"quick": ("split-digits", {})}
PROFILES["laptop"] = ("split-mnist", dict(steps=2000, batch=128, hidden=400))
PROFILES["paper"] = PROFILES["laptop"]  # theirs is on AlexNet and large photographs
CHUNK = 20  # images whose gradients are in memory at once


def sensitivity(solver, x, classes, scenario) -> dict[str, torch.Tensor]:
    """Eq. 3 summed over the images x (B, C, H, W): {name: (*shape)}, per weight, at least 0."""
    theta = {name: weight.detach() for name, weight in solver.named_parameters()}

    def length(theta, image):
        logits = functional_call(solver, theta, (image[None],))
        hidden = visible(logits, classes, scenario).isneginf()
        return logits.masked_fill(hidden, 0.0).square().sum()

    gradients = vmap(grad(length), (None, 0))(theta, x)
    return {name: g.abs().sum(0) for name, g in gradients.items()}


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
        rng = split_seed(cfg.seed, exp.k, "batches", "images")
        optimizer = torch.optim.Adam(solver.parameters(), lr=cfg.lr)
        for step, (x, y) in enumerate(
            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)
        ):
            loss = F.cross_entropy(visible(solver(x), exp.classes, stream.scenario), y)
            losses = {"new": loss}
            if seen:
                losses["keep"] = keep(solver, anchor, importance, cfg.lam)
                loss = loss + losses["keep"]  # Eq. 1
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield Tick(exp.k, step + 1, cfg.steps, losses, learner)
        drawn = exp.x[torch.randperm(len(exp.x), generator=rng["images"])[: cfg.images]]
        for x in drawn.to(device).split(CHUNK):
            more = sensitivity(solver, x, exp.classes, stream.scenario)
            importance = {name: importance[name] + g / len(drawn) for name, g in more.items()}
            yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner)
        # What survives to the next experience
        carried = {"solver": state(solver), "importance": importance, "seen": seen + 1}
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
