"""Learning without forgetting: let the old network say what it thinks of the new images.

Idea. Before an experience, freeze a copy of the network, the teacher f'. While the new classes are
learned, the network also has to keep giving the answers that f' gives, on the same new images. No
old image is needed; but what the new images do not show cannot be kept.

Loss. On a batch (x, y) of the current experience, with solver f and teacher f',
    (1)  L = CE(f(x), y) + lam D,  or  s CE(f(x), y) + (1 - s) lam D    "new", "distill"
    (2)  D = sum_h tau^2 KL(softmax(f'(x)_h / tau) || softmax(f(x)_h / tau))
mean over the batch, in nats; s = 1/(seen + 1). h runs over the heads of the past: in the task
scenario the classes of each past experience, in the two others the one head over all classes. The
factor tau^2 keeps the size of the gradient independent of tau (Hinton et al. 2015, section 2).

Carried. The solver's weights, which are the next teacher; which classes have met; how many
experiences were seen. No real samples.

Toggle. `lam`: 0 is fine-tuning. `weights`: "seen" is the second form of Eq. 1.

Deviations. No phase in which only the new head is trained; no weight decay.

Reference. Li & Hoiem 2018, section 3, Eq. 1 to 3 (lam = 1, tau = 2), the first form. "LwF" in van
de Ven, Tuytelaars & Tolias 2022: the second, without tau^2, which is lam = 1/4 (preset "vandeven").
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F

from cltutor.nets.solver import CIFAR, MAPS, NARROW, AnyNet, make_solver
from cltutor.seeds import build, frozen_copy, split_seed, state
from cltutor.stream import Tick, batches, mates, visible


@dataclass(frozen=True)
class Config:
    steps: int = field(default=500, metadata=dict(source="ours; per experience", range=(1, 10**5)))
    batch: int = field(default=64, metadata=dict(source="ours", range=(1, 4096)))
    lr: float = field(default=1e-3, metadata=dict(source="van de Ven 2022", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    hidden: int = field(default=100, metadata=dict(source="ours; per layer", range=(1, 4096)))
    net: AnyNet = "mlp"  # nets/solver.py
    lam: float = field(default=1.0, metadata=dict(source="Li & Hoiem 2018", range=(0.0, 1e3)))
    tau: float = field(default=2.0, metadata=dict(source="Li & Hoiem 2018", range=(0.1, 20.0)))
    weights: Literal["lam", "seen"] = "lam"


PRESETS = {
    "vandeven": dict(steps=2000, batch=128, hidden=400, weights="seen", lam=0.25),
    "narrow": NARROW,
}
PRESETS |= {"cifar": CIFAR, "maps": MAPS}
PROFILES = {"quick": ("split-digits", {}), "laptop": ("split-mnist", PRESETS["vandeven"])}
PROFILES["paper"] = PROFILES["laptop"]  # the published protocol takes minutes on a laptop


def distill(logits, targets, heads, tau, scenario) -> torch.Tensor:
    """Eq. 2 from the solver's and the teacher's logits (B, n_classes), mean over the batch.

    `heads` (n, n_classes) bool are the classes of each past head; outside the task scenario nothing
    is hidden, so one row is enough.
    """
    total = torch.zeros((), device=logits.device)
    for head in heads:
        log_q = F.log_softmax(visible(logits, head, scenario) / tau, dim=1)
        log_p = F.log_softmax(visible(targets, head, scenario) / tau, dim=1)
        gap = (log_p - log_q).masked_fill(log_p.isneginf(), 0.0)  # hidden classes count nothing
        total = total + tau**2 * (log_p.exp() * gap).sum(1).mean()
    return total


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
        solver, teacher = learner["solver"], frozen_copy(learner["solver"])
        seen = 0 if carried is None else carried["seen"]
        if seen:
            known = carried["classes"]
            heads = known[known.diagonal()].unique(dim=0).to(device)
            heads = heads if stream.scenario == "task" else heads[:1]
        s, rest = (1 / (seen + 1), seen / (seen + 1)) if cfg.weights == "seen" else (1.0, 1.0)
        rng = split_seed(cfg.seed, exp.k, "batches")
        optimizer = torch.optim.Adam(solver.parameters(), lr=cfg.lr)
        for step, (x, y) in enumerate(
            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)
        ):
            logits = solver(x)
            loss = F.cross_entropy(visible(logits, exp.classes, stream.scenario), y)
            losses = {"new": loss}
            if seen:
                losses["distill"] = distill(logits, teacher(x), heads, cfg.tau, stream.scenario)
                loss = s * loss + rest * cfg.lam * losses["distill"]  # Eq. 1
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield Tick(exp.k, step + 1, cfg.steps, losses, learner)
        # What survives to the next experience
        known = mates(exp.classes, stream.n_classes, carried and carried["classes"])
        carried = {"solver": state(solver), "seen": seen + 1, "classes": known}
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
