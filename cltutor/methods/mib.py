"""Modelling the background: when old classes are labelled background, the loss has to know it.

Idea. In class-incremental segmentation whatever is not among the classes at hand is labelled
background, old classes too. Plain cross-entropy then teaches that every old object is background,
and plain distillation holds the new ones to be background, as the teacher took them. The background
has to be read as "none of the labelled classes" in the one and "none that you know" in the other.

Loss. On a batch (x, y) of the current experience, per pixel, with solver f, teacher f', p the
softmax of f over the classes known by now and p' that of f' over those known before,
    (1)  L = - log q(y) + lam D                       "new", "distill"
    (2)  q(0) = p(0) + sum of p(c) over old c,    q(c) = p(c) for c at hand
    (3)  D = - mean_c p'(c) log r(c),  c known before
    (4)  r(0) = p(0) + sum of p(c) over new c,    r(c) = p(c) for the others known before
means over pixels and batch, in nats. Class 0 is the background.
    (5)  head rows of the new classes start as that of the background, these and its bias at
         b - log(n + 1), n new classes: so r(0) is at first what p'(0) is.

Carried. The solver's weights, which are the next teacher; which classes have met; how many
experiences were seen. No real samples.

Toggle. `label`, `keep`, `start`: False takes q = p in Eq. 1, r = the softmax over the old outputs
in Eq. 3, and no Eq. 5. All three are LwF as the paper compares it (preset "lwf"). `lam`: 0 does
without the teacher. `rates`: `lr` is "lower" after the first experience, a twentieth (there: a
tenth; Li et al. 2023, on city scenes: .02 and .001).

Deviations. Adam in place of SGD with a polynomial decay; a small network of its own.

Reference. Cermelli, Mancini, Rota Bulo, Ricci & Caputo 2020, Eq. 3 to 8; lam = 10 in their code.
"""

from dataclasses import dataclass, field
from functools import partial
from math import log
from typing import Literal

import torch
import torch.nn.functional as F

from cltutor.errors import UserError
from cltutor.nets.segmenter import Segmenter
from cltutor.seeds import build, frozen_copy, split_seed, state
from cltutor.stream import Tick, batches, mates


@dataclass(frozen=True)
class Config:
    steps: int = field(default=1000, metadata=dict(source="ours; per experience", range=(1, 10**5)))
    batch: int = field(default=16, metadata=dict(source="ours", range=(1, 4096)))
    lr: float = field(default=2e-3, metadata=dict(source="ours", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    hidden: int = field(default=24, metadata=dict(source="ours; channels", range=(1, 512)))
    lam: float = field(default=10.0, metadata=dict(source="Cermelli 2020, code", range=(0.0, 1e3)))
    label: bool = True
    keep: bool = True
    start: bool = True
    rates: Literal["constant", "lower"] = "constant"


PRESETS = {"lwf": dict(label=False, keep=False, start=False), "styles": dict(rates="lower")}
PROFILES = {"quick": ("voc-canvas16-5-5", dict(steps=500)), "laptop": ("voc-canvas32-6-2", {})}
PROFILES["paper"] = ("voc-voc2012-15-5", dict(steps=3000, hidden=64))


def among(logits, classes) -> torch.Tensor:
    """Log-softmax of logits (B, C, H, W) over `classes` (C,) bool; minus infinity elsewhere."""
    return F.log_softmax(logits.masked_fill(~classes.view(-1, 1, 1), float("-inf")), dim=1)


def merged(log_p, others) -> torch.Tensor:
    """Log-probabilities (B, C, H, W) in which class 0 stands for `others` (C,) bool, too."""
    zero = others.clone()
    zero[0] = True
    background = log_p[:, zero].logsumexp(1, keepdim=True)  # Eq. 2, Eq. 4
    return torch.cat([background, log_p[:, 1:]], 1)


def distill(log_r, targets, known) -> torch.Tensor:
    """Eq. 3: log_r and the teacher's logits (B, C, H, W), `known` (C,) bool; 0-d, at least 0."""
    p = F.softmax(targets[:, known], dim=1)
    return -(p * log_r[:, known]).mean(1).mean()


@torch.no_grad()
def start_from_background(head, new) -> None:
    """Eq. 5, in place; `new` are the ids of the classes."""
    head.weight[new] = head.weight[:1].clone()
    head.bias[[0, *new]] = head.bias[0] - log(len(new) + 1)


def networks(stream, cfg, device="cpu", carried=None):
    """The learner: untrained, or as `carried` left it."""
    make = partial(Segmenter, stream.shape, stream.n_classes, cfg.hidden)
    solver = build("solver", make, cfg.seed, device, carried)
    return {"solver": solver, "features": solver.body}


def run(stream, cfg, *, device="cpu", carried=None):
    """Learn the stream; yield a tick per optimiser step and an end tick per experience."""
    if stream.target != "map":
        raise UserError(
            "mib needs a class for every pixel: take a stream such as voc-canvas16-6-2."
        )
    for exp in stream:
        # What this experience starts from
        learner = networks(stream, cfg, device, carried)
        solver, teacher = learner["solver"], frozen_copy(learner["solver"])
        seen = 0 if carried is None else carried["seen"]
        met = mates(exp.classes, stream.n_classes, carried and carried["classes"])
        known = met.diagonal().to(device)
        before = carried["classes"].diagonal().to(device) if seen else torch.zeros_like(known)
        old, new = before.clone(), known & ~before
        old[list(exp.classes)] = False
        if seen and cfg.start and new.any():
            start_from_background(solver.head, new.nonzero().flatten().tolist())
        rng = split_seed(cfg.seed, exp.k, "batches")
        lower = seen and cfg.rates == "lower"
        optimizer = torch.optim.Adam(solver.parameters(), lr=cfg.lr / 20 if lower else cfg.lr)
        for step, (x, y) in enumerate(
            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)
        ):
            log_p = among(solver(x), known)
            log_q = merged(log_p, old) if cfg.label else log_p
            loss = F.nll_loss(log_q, y)
            losses = {"new": loss}
            if seen:
                log_r = merged(log_p, new) if cfg.keep else among(log_p, before)
                losses["distill"] = distill(log_r, teacher(x), before)
                loss = loss + cfg.lam * losses["distill"]  # Eq. 1
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield Tick(exp.k, step + 1, cfg.steps, losses, learner)
        # What survives to the next experience
        carried = {"solver": state(solver), "seen": seen + 1, "classes": met}
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
