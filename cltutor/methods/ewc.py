"""Elastic weight consolidation: hold on to the weights that past experiences need.

Idea. After each experience, measure how strongly every weight acts on what the network says about
its images: the diagonal of the Fisher information. From then on a spring of that stiffness pulls
the weight back to its value. Weights that did not matter are free to learn.

Loss. On a batch (x, y) of the current experience, with solver f and its weights theta,
    (1)  L   = CE(f(x), y) + keep                     "new"
    (2)  keep = lam/2 sum_i F_i (theta_i - theta*_i)^2    "keep"
    (3)  F_i = mean_x sum_c p(c | x) (d log p(c | x) / d theta_i)^2
CE is the mean over the batch, in nats; theta* are the weights at the end of the experience before;
p = softmax f. Eq. 3 is summed over the past experiences and taken at the end of each: the exact
expectation over the classes that the network itself predicts, with the square of every single
image's gradient. (Squares of a batch's mean gradient are far too small.)

Carried. The solver's weights, which are the next theta*; the sum of the Fisher diagonals (role
`importance`); how many experiences were seen. No real samples.

Toggle. `lam`: 0 is fine-tuning.

Deviations. One spring per weight to its latest value, stiffness summed (Huszar 2018; online EWC
with gamma = 1), where Kirkpatrick et al. keep one to its value after every past experience. The
mean of Eq. 3 is over at most `fisher_images` images, drawn anew.

Reference. Kirkpatrick et al. 2017, Eq. 3; Huszar 2018; van de Ven 2025 on the estimators of F.
"""

from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch.func import functional_call, jacrev, vmap

from cltutor.nets.solver import CIFAR, NARROW, Net, make_solver
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
    lam: float = field(default=1e3, metadata=dict(source="ours; a grid, below", range=(0.0, 1e9)))
    fisher_images: int = field(default=500, metadata=dict(source="ours", range=(1, 10**5)))


# lam: the best of 10, 100, ..., 1e6 in the task scenario with seed 10, which no record contains.
PRESETS = {"vandeven": dict(steps=2000, batch=128, hidden=400, lam=1e5), "narrow": NARROW}
# "cifar": the best of 10, 100, 1000, 1e4 on three experiences of 20 with seed 10, 200 images.
PRESETS["cifar"] = CIFAR | dict(lam=100.0, fisher_images=50)
PROFILES = {"quick": ("split-digits", {}), "laptop": ("split-mnist", PRESETS["vandeven"])}
PROFILES["paper"] = PROFILES["laptop"]  # the published protocol takes minutes on a laptop
CHUNK = 20  # images whose gradients are in memory at once


def fisher(solver, x, classes, scenario) -> dict[str, torch.Tensor]:
    """Eq. 3 summed over the images x (B, C, H, W): {name: (*shape)}, per weight, at least 0."""
    theta = {name: weight.detach() for name, weight in solver.named_parameters()}
    shown = list(classes) if scenario == "task" else slice(None)  # the others have p = 0

    def log_p(theta, image):
        logits = functional_call(solver, theta, (image[None],))
        return F.log_softmax(visible(logits, classes, scenario), dim=1)[0, shown]

    p = vmap(log_p, (None, 0))(theta, x).exp()
    gradients = vmap(jacrev(log_p), (None, 0))(theta, x)  # (B, n_classes, *shape)
    return {name: torch.einsum("bc,bc...->...", p, g**2) for name, g in gradients.items()}


def keep(solver, anchor, importance, lam) -> torch.Tensor:
    """Eq. 2, summed over all weights: `anchor` and `importance` are {name: tensor}; 0-d."""
    theta = dict(solver.named_parameters())
    return lam / 2 * sum((importance[n] * (theta[n] - anchor[n]) ** 2).sum() for n in theta)


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
            importance = {name: f.to(device) for name, f in carried["importance"].items()}
        rng = split_seed(cfg.seed, exp.k, "batches", "fisher")
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
        drawn = exp.x[torch.randperm(len(exp.x), generator=rng["fisher"])[: cfg.fisher_images]]
        for x in drawn.to(device).split(CHUNK):
            more = fisher(solver, x, exp.classes, stream.scenario)
            importance = {name: importance[name] + f / len(drawn) for name, f in more.items()}
            yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner)
        # What survives to the next experience
        carried = {"solver": state(solver), "importance": importance, "seen": seen + 1}
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
