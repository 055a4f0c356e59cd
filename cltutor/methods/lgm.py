"""Latent generative memory: dream features, not images.

Idea. A solver is a head h on an encoder f. After each experience a memory of z = f(x) is made for
its classes, which is far simpler than one of images; later the head rehearses codes drawn from it.
But dreams are codes of the old encoder: if f moves on, they are of a place that no longer exists.

Loss. On a batch (x, y) and as many codes z' of past classes c, drawn from the memory,
    (1)  L = s CE(h(f(x)), y) + (1 - s) CE(h(z'), c) + lam |f(x) - f'(x)|^2
    (2)  L_G = V(f(x), y) + |G(e, c) - G'(e, c)|^2               memory="shared" alone
"new", "recalled", "distill" (mean over codes of the sum over dimensions), "memory", "align"; s =
1/(seen + 1). V is the negative ELBO of a conditional VAE, G its decoder; f', G': frozen, as before.

Carried. Solver's weights; the memory: per class a mean and a factor L of the covariance, z' = mean
+ L e, or the weights of G; which classes have met; how many experiences were seen. No real samples.

Toggle. `replay`. `encoder`: "free"; "frozen" after the first experience; "distill", the last term
of Eq. 1; "drift": old means move with the codes of current images near them (SDC); "bridge": old
codes go through a linear map that takes f'(x) to f(x). `memory`: L is diagonal ("gaussian"), full,
0 ("prototypes"); "shared", which neither "drift" nor "bridge" moves.

Deviations. The slides name no losses, sizes or weights; all are ours. SDC: Yu et al. 2020, Eq. 10.

Reference. Skorokhodov 2019, slides "Latent Generative Memory"; GFR (Liu et al. 2020) is near.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F

from cltutor.latent import bridged, drifted, recall, remember
from cltutor.nets.latent import CodeVAE, coded_solver
from cltutor.seeds import build, frozen_copy, split_seed, state
from cltutor.stream import Tick, batches, mates, visible


@dataclass(frozen=True)
class Config:
    steps: int = field(default=500, metadata=dict(source="ours; per experience", range=(1, 10**5)))
    batch: int = field(default=64, metadata=dict(source="ours", range=(1, 4096)))
    lr: float = field(default=1e-3, metadata=dict(source="ours", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    hidden: int = field(default=100, metadata=dict(source="ours; of the encoder", range=(1, 4096)))
    latent: int = field(default=32, metadata=dict(source="ours; size of z", range=(1, 1024)))
    replay: Literal["none", "latent"] = "latent"
    encoder: Literal["free", "frozen", "distill", "drift", "bridge"] = "free"
    memory: Literal["gaussian", "full", "prototypes", "shared"] = "gaussian"
    lam: float = field(default=0.1, metadata=dict(source="ours; Eq. 1", range=(0.0, 1e3)))
    sigma: float = field(default=1.0, metadata=dict(source="ours; SDC", range=(1e-3, 1e3)))


PRESETS = {"keep": dict(encoder="distill")}  # the remedy that works, over a profile
PROFILES = {"quick": ("split-digits", {})}
PROFILES["laptop"] = ("split-mnist", dict(steps=2000, batch=128, hidden=400))
PROFILES["paper"] = PROFILES["laptop"]  # the slides have no experiment
NOISE = 8  # dimensions of e of G


def moved(cfg, memory, teacher, features, x, device):
    """The memory, where the codes of the current images x tell how the encoder has moved."""
    if not memory or cfg.encoder not in ("drift", "bridge"):
        return memory
    before, after = (net(x.to(device)).cpu() for net in (teacher["features"], features))
    if cfg.encoder == "drift":
        return drifted(memory, before, after, cfg.sigma)
    return bridged(memory, before, after)


def networks(stream, cfg, device="cpu", carried=None):
    """The learner: untrained, or as `carried` left it. G, too, if all classes share the memory."""
    make = partial(coded_solver, stream.shape, stream.n_classes, cfg.hidden, cfg.latent)
    solver = build("solver", make, cfg.seed, device, carried)
    learner = {"solver": solver, "features": solver.body}
    if cfg.memory == "shared":
        make = partial(CodeVAE, cfg.latent, stream.n_classes, cfg.hidden, NOISE)
        learner["memory"] = build("memory", make, cfg.seed, device, carried)
    return learner


def run(stream, cfg, *, device="cpu", carried=None):
    """Learn the stream; yield a tick per optimiser step and an end tick per experience."""
    for exp in stream:
        # What this experience starts from
        learner = networks(stream, cfg, device, carried)
        solver, G = learner["solver"], learner.get("memory")
        teacher = {role: frozen_copy(net) for role, net in learner.items()}
        seen = 0 if carried is None else carried["seen"]
        s = 1 / (seen + 1) if cfg.replay == "latent" else 1.0
        solver.body.requires_grad_(not (seen and cfg.encoder == "frozen"))
        known = carried and carried["classes"]
        past = known.diagonal().nonzero().flatten() if seen else None
        rng = split_seed(cfg.seed, exp.k, "batches", "replay", "codes")
        weights = torch.nn.ModuleDict(learner).parameters()
        optimizer = torch.optim.Adam(weights, lr=cfg.lr)
        for step, (x, y) in enumerate(
            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)
        ):
            z = solver.body(x)
            loss = F.cross_entropy(visible(solver.head(z), exp.classes, stream.scenario), y)
            losses = {"new": loss}
            if G:
                e = torch.randn(len(x), NOISE, generator=rng["codes"]).to(device)
                losses["memory"] = G.loss(z.detach(), y, e)
            if seen and cfg.replay == "latent":
                c = past[torch.randint(len(past), (len(x),), generator=rng["replay"])]
                heads = known[c].to(device)
                if G:
                    e = torch.randn(len(x), NOISE, generator=rng["replay"]).to(device)
                    z_ = teacher["memory"](e, c.to(device))
                    losses["align"] = (G(e, c.to(device)) - z_).square().mean()
                else:
                    z_ = recall(carried["memory"], c, rng["replay"]).to(device)
                logits = visible(solver.head(z_), heads, stream.scenario)
                losses["recalled"] = F.cross_entropy(logits, c.to(device))
                loss = s * loss + (1 - s) * losses["recalled"]  # Eq. 1
            if seen and cfg.encoder == "distill":
                losses["distill"] = (z - teacher["features"](x)).square().sum(1).mean()
                loss = loss + cfg.lam * losses["distill"]
            loss = loss + losses.get("memory", 0) + losses.get("align", 0)  # Eq. 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield Tick(exp.k, step + 1, cfg.steps, losses, learner)
        # What survives to the next experience
        known = mates(exp.classes, stream.n_classes, known)
        if G:
            memory = state(G)
        else:
            with torch.no_grad():
                old = moved(cfg, carried and carried["memory"], teacher, solver.body, exp.x, device)
                z = solver.body(exp.x.to(device)).cpu()
            memory = remember(old, z, exp.y, stream.n_classes, cfg.memory)
        carried = {"solver": state(solver), "memory": memory, "seen": seen + 1, "classes": known}
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
