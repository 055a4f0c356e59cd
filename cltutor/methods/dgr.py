"""Deep generative replay with a VAE: remember past experiences by dreaming them.

Idea. A generator g learns to draw what the solver f learns to tell apart. At the next experience
frozen copies, the teachers, dream: g' draws the past, f' labels it; f and g learn from both.

Loss. On a batch (x, y) of the current experience and as many dreams x' ~ g' with labels p by f',
    (1)  L   = s CE(f(x), y) + (1 - s) H(p, f(x'))    "new", "replayed"
    (2)  L_g = s V(x) + (1 - s) V(x')                 "vae_new", "vae_replayed"
    (3)  H(p, f(x')) = - sum_c p_c log softmax(f(x') / tau)_c
mean over the batch, in nats (V, the negative ELBO of vae.py: per pixel); s = 1/(seen + 1). Hard p:
one-hot at the largest logit, tau = 1. Soft p: softmax(f'(x') / tau), no factor tau^2, as published.

Carried. Weights of solver and generator; which classes have met; how many experiences were seen.
Real samples only with replay="exact": all of them as 8-bit pixels, with labels (role `buffer`).

Toggle. `replay`: "none" (fine-tuning), "noise" (f' labels it), "exact" (stored images). `labels`.
`weights`: "equal" is s = 1/2. `replay_vae`: off is s = 1 in Eq. 2. `solver_every`: in VAE steps.

Deviations. The optimiser starts anew at each experience. In the task scenario a dream has one past
head, drawn uniformly. Preset "seed002", of a course: no dropout; "permuted": a split's passes.

Reference. Shin et al. 2017, section 3; van de Ven & Tolias 2018, section 2; van de Ven et al. 2022.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F

from cltutor.nets.solver import NARROW, Small, make_solver
from cltutor.seeds import build, frozen_copy, split_seed, state
from cltutor.stream import Tick, batches, keep, mates, visible
from cltutor.vae import VAE, negative_elbo


@dataclass(frozen=True)
class Config:
    steps: int = field(default=500, metadata=dict(source="ours; per experience", range=(1, 10**5)))
    batch: int = field(default=64, metadata=dict(source="ours", range=(1, 4096)))
    lr: float = field(default=1e-3, metadata=dict(source="van de Ven 2022", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    hidden: int = field(default=100, metadata=dict(source="ours; per layer", range=(1, 4096)))
    net: Small = "mlp"  # nets/solver.py
    replay: Literal["none", "noise", "generative", "exact"] = "generative"
    labels: Literal["hard", "soft"] = "hard"
    tau: float = field(default=2.0, metadata=dict(source="van de Ven 2022", range=(0.1, 20.0)))
    weights: Literal["seen", "equal"] = "seen"
    replay_vae: bool = field(default=True, metadata=dict(source="Shin 2017, section 3.2"))
    vae_hidden: int = field(default=100, metadata=dict(source="ours; per layer", range=(1, 4096)))
    latent: int = field(default=10, metadata=dict(source="ours; size of z", range=(1, 1024)))
    solver_every: int = field(default=1, metadata=dict(source="ours; in steps", range=(1, 1000)))
    weight_decay: float = field(default=0.0, metadata=dict(source="none published", range=(0, 1)))


PRESETS = {"vandeven": dict(steps=2000, batch=128, hidden=400, vae_hidden=400, latent=100)}
SMALL = dict(hidden=50, steps=4700, solver_every=10, weight_decay=1e-5)  # 5 epochs, the VAE 50
PRESETS |= {"seed002": PRESETS["vandeven"] | SMALL, "permuted": dict(steps=2500), "narrow": NARROW}
PROFILES = {"quick": ("split-digits", {}), "laptop": ("split-mnist", PRESETS["vandeven"])}
PROFILES["paper"] = PROFILES["laptop"]  # the published protocol takes minutes on a laptop


def share(seen: int, weights: str) -> float:
    """s of Eq. 1: 1/(seen + 1), or one half ("equal") as soon as there is a past."""
    return 1 / (seen + 1) if weights == "seen" or seen == 0 else 0.5


def label(logits: torch.Tensor, labels: str, tau: float) -> torch.Tensor:
    """p of Eq. 3 from the teacher's logits: (B, n_classes) -> (B, n_classes), rows sum to 1."""
    hard = F.one_hot(logits.argmax(1), logits.shape[1]).float()
    return hard if labels == "hard" else F.softmax(logits / tau, dim=1)


def match(logits: torch.Tensor, p: torch.Tensor, tau: float) -> torch.Tensor:
    """H of Eq. 3, mean over the batch; classes with p = 0 count nothing, hidden ones included."""
    return -(p * F.log_softmax(logits / tau, dim=1).masked_fill(p == 0, 0.0)).sum(1).mean()


def replayed(stream, cfg, teacher, carried, n, rng):
    """n images x' of the past (n, C, H, W), their labels p, the classes visible to each of them."""
    known, device = carried["classes"], teacher["solver"].head.weight.device
    if cfg.replay == "exact":
        kept = carried["buffer"]
        pick = torch.randint(len(kept["y"]), (n,), generator=rng)
        x_, y_ = kept["x"][pick].to(device) / 255, kept["y"][pick]
        return x_, F.one_hot(y_, stream.n_classes).float().to(device), known[y_].to(device)
    if cfg.replay == "noise":
        x_ = torch.rand(n, *stream.shape, generator=rng).to(device)
    else:
        x_ = teacher["generator"].sample(n, rng)
    past = known.diagonal().nonzero().flatten()
    heads = known[past[torch.randint(len(past), (n,), generator=rng)]].to(device)
    logits = visible(teacher["solver"](x_), heads, stream.scenario)
    return x_, label(logits, cfg.labels, cfg.tau), heads


def networks(stream, cfg, device="cpu", carried=None):
    """The learner: untrained, or as `carried` left it. No generator unless it is to dream."""
    make = partial(make_solver, cfg.net, stream.shape, stream.n_classes, cfg.hidden)
    solver = build("solver", make, cfg.seed, device, carried)
    learner = {"solver": solver, "features": solver.body}
    if cfg.replay == "generative":
        make = partial(VAE, stream.shape, cfg.vae_hidden, cfg.latent)
        learner["generator"] = build("generator", make, cfg.seed, device, carried)
    return learner


def run(stream, cfg, *, device="cpu", carried=None):
    """Learn the stream; yield a tick per optimiser step and an end tick per experience."""
    for exp in stream:
        # What this experience starts from
        learner = networks(stream, cfg, device, carried)
        solver, generator = learner["solver"], learner.get("generator")
        seen = 0 if carried is None else carried["seen"]
        replaying = seen > 0 and cfg.replay != "none"
        teacher = {role: frozen_copy(net) for role, net in learner.items() if replaying}
        s, tau = share(seen, cfg.weights), cfg.tau if cfg.labels == "soft" else 1.0
        rng = split_seed(cfg.seed, exp.k, "batches", "replay", "vae")
        weights = torch.nn.ModuleDict(learner).parameters()
        optimizer = torch.optim.Adam(weights, lr=cfg.lr, weight_decay=cfg.weight_decay)
        for step, (x, y) in enumerate(
            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)
        ):
            loss = F.cross_entropy(visible(solver(x), exp.classes, stream.scenario), y)
            losses = {"new": loss}
            if replaying:
                x_, p, heads = replayed(stream, cfg, teacher, carried, len(x), rng["replay"])
                losses["replayed"] = match(visible(solver(x_), heads, stream.scenario), p, tau)
                loss = s * loss + (1 - s) * losses["replayed"]  # Eq. 1
            if generator:
                e = torch.randn(2, len(x), cfg.latent, generator=rng["vae"]).to(device)
                loss_g = losses["vae_new"] = negative_elbo(*generator(x, e[0]), x)
                if replaying and cfg.replay_vae:
                    losses["vae_replayed"] = negative_elbo(*generator(x_, e[1]), x_)
                    loss_g = s * loss_g + (1 - s) * losses["vae_replayed"]  # Eq. 2
                loss = loss_g if step % cfg.solver_every else loss + loss_g  # share no weight
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield Tick(exp.k, step + 1, cfg.steps, losses, learner)
        # What survives to the next experience
        known = mates(exp.classes, stream.n_classes, carried and carried["classes"])
        buffer = carried and carried.get("buffer")
        carried = {"solver": state(solver), "seen": seen + 1, "classes": known}
        if generator:
            carried["generator"] = state(generator)
        if cfg.replay == "exact":
            carried["buffer"] = keep(buffer, exp.x, exp.y)
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
