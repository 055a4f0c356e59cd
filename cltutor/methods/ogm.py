"""Online generative memory: hold old answers still at every step, without a teacher from the past.

Idea. Before each update the solver itself, as it is, says what it makes of replayed images x': y' =
f(x'). The update for the new images must not change that. No end-of-experience copy is needed; but
only the change of one step is held, so errors add up along the way.

Loss. On a batch (x, y), with L = CE(f(x), y), "new", and step size lr,
    (1)  D(theta') = |f_theta'(x') - y'|^2     "kept": mean over images, sum over classes
"maml":          m steps on D(theta - lr dL(theta)), then theta - lr dL
"post_step":     theta - lr dL, then m steps on D(theta)
"projection":    theta - lr G P per layer, G = dL, P = eps (M + eps I)^-1, M = A^T A / n
"fixed_teacher": theta - lr d(L + lam D), y' of the solver as the experience began
A (n, d): the inputs of the layer on x', with a 1 for the bias; P annihilates them as eps -> 0, so
that G P changes no output on x'. The slide's own projection, on dD, has nothing to project on: D
is 0 before the step, and so is its gradient.

Carried. Weights of solver and generator; how many experiences were seen. Real samples only with
replay="real": all of them, in role `buffer`; labels are not used.

Toggle. `idea`, `replay`: "none" (fine-tuning by SGD), "real", "vae" (dreams of a VAE that replays
itself, loss "vae"), "current" (x' = x, the slide's remark on LwF).

Deviations. The slides leave sizes open. y' is stored: else the target of "maml" moves with theta.

Reference. Skorokhodov 2019, slides; OWM (Zeng et al. 2019) projects layer by layer as well.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F

from cltutor.nets.mlp import MLP
from cltutor.online import descend, lookahead, moved, project
from cltutor.seeds import build, frozen_copy, split_seed, state
from cltutor.stream import Tick, batches, keep, visible
from cltutor.vae import VAE, negative_elbo


@dataclass(frozen=True)
class Config:
    steps: int = field(default=300, metadata=dict(source="ours; per experience", range=(1, 10**5)))
    batch: int = field(default=64, metadata=dict(source="ours", range=(1, 4096)))
    lr: float = field(default=0.05, metadata=dict(source="ours; of SGD", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    hidden: int = field(default=100, metadata=dict(source="ours; per layer", range=(1, 4096)))
    idea: Literal["maml", "post_step", "projection", "fixed_teacher"] = "projection"
    replay: Literal["none", "real", "vae", "current"] = "real"
    eps: float = field(default=1e-2, metadata=dict(source="ours; softness", range=(1e-8, 1e3)))
    inner: int = field(default=10, metadata=dict(source="ours; m", range=(1, 1000)))
    inner_lr: float = field(default=0.01, metadata=dict(source="ours; of m", range=(1e-6, 1.0)))
    lam: float = field(default=0.1, metadata=dict(source="ours", range=(0.0, 1e3)))


PRESETS = {"teacher": dict(idea="fixed_teacher")}  # over a profile
PROFILES = {"quick": ("split-digits", {})}
PROFILES["laptop"] = ("split-mnist", dict(steps=2000, batch=128, hidden=400))
PROFILES["paper"] = PROFILES["laptop"]  # the slides have no experiment
NOISE = 10  # dimensions of the VAE's code


def replayed(cfg, teacher, carried, x, rng):
    """Images x' of the past as many as x, (B, C, H, W); with "current" x itself."""
    if cfg.replay == "current":
        return x
    if cfg.replay == "vae":
        return teacher["generator"].sample(len(x), rng)
    kept = carried["buffer"]["x"]
    return kept[torch.randint(len(kept), (len(x),), generator=rng)].to(x.device) / 255


def networks(stream, cfg, device="cpu", carried=None):
    """The learner: untrained, or as `carried` left it. No generator unless it is to dream."""
    make = partial(MLP, stream.shape, stream.n_classes, cfg.hidden)
    solver = build("solver", make, cfg.seed, device, carried)
    learner = {"solver": solver, "features": solver.body}
    if cfg.replay == "vae":
        make = partial(VAE, stream.shape, cfg.hidden, NOISE)
        learner["generator"] = build("generator", make, cfg.seed, device, carried)
    return learner


def run(stream, cfg, *, device="cpu", carried=None):
    """Learn the stream; yield a tick per optimiser step and an end tick per experience."""
    for exp in stream:
        # What this experience starts from
        learner = networks(stream, cfg, device, carried)
        solver, generator = learner["solver"], learner.get("generator")
        teacher = {role: frozen_copy(net) for role, net in learner.items()}
        seen = 0 if carried is None else carried["seen"]
        replaying, s = seen > 0 and cfg.replay != "none", 1 / (seen + 1)
        weights = list(solver.parameters())

        def new(logits, y, classes=exp.classes):
            return F.cross_entropy(visible(logits, classes, stream.scenario), y)

        rng = split_seed(cfg.seed, exp.k, "batches", "replay", "vae")
        optimizer = torch.optim.SGD(weights, lr=cfg.lr)
        if generator:
            adam = torch.optim.Adam(generator.parameters(), lr=1e-3)
        for step, (x, y) in enumerate(
            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)
        ):
            if replaying:
                x_ = replayed(cfg, teacher, carried, x, rng["replay"])
                with torch.no_grad():
                    y_ = (teacher["solver"] if cfg.idea == "fixed_teacher" else solver)(x_)
            if replaying and cfg.idea == "maml":
                for _ in range(cfg.inner):
                    ahead = lookahead(solver, new(solver(x), y), cfg.lr)
                    descend(weights, moved(ahead(x_), y_), cfg.inner_lr)
            loss = new(solver(x), y)
            losses = {"new": loss}
            if replaying and cfg.idea == "fixed_teacher":
                loss = loss + cfg.lam * moved(solver(x_), y_)
            optimizer.zero_grad()
            loss.backward()
            if replaying and cfg.idea == "projection":
                project([*solver.body, solver.head], x_, cfg.eps)
            optimizer.step()
            if replaying and cfg.idea == "post_step":
                for _ in range(cfg.inner):
                    descend(weights, moved(solver(x_), y_), cfg.inner_lr)
            if replaying:
                losses["kept"] = moved(solver(x_), y_)
            if generator:
                e = torch.randn(2, len(x), NOISE, generator=rng["vae"]).to(device)
                losses["vae"] = negative_elbo(*generator(x, e[0]), x)
                if replaying:
                    past = negative_elbo(*generator(x_, e[1]), x_)
                    losses["vae"] = s * losses["vae"] + (1 - s) * past
                adam.zero_grad()
                losses["vae"].backward()
                adam.step()
            yield Tick(exp.k, step + 1, cfg.steps, losses, learner)
        # What survives to the next experience
        buffer = carried and carried.get("buffer")
        carried = {role: state(net) for role, net in learner.items() if role != "features"}
        carried["seen"] = seen + 1
        if cfg.replay == "real":
            carried["buffer"] = keep(buffer, exp.x, exp.y)
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
