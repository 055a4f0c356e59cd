"""Dynamic generative memory: a generator that gives each experience units of its own.

Idea. Nothing is rehearsed by the generator. It learns, with each experience's images, also which
of its units to use; afterwards these are reserved: no later step changes the weights between
them, so the old images stay as they are, to the last bit. As much as was reserved grows anew. The
class head of the discriminator learns from real current and generated old images: the solver.

Loss. On a batch (x, y) of the current experience, images x~ = g(z, y, m) of its mask m, old images
x' of class y', discriminator with class head f and critic d,
    (1)  L_f = s CE(f(x), y) + (1 - s) CE(f(x'), y')  "new", "replayed"
    (2)  L_d = mean d(x~) - mean d(x) + lam_gp mean (|grad d(x^)| - 1)^2    "critic"
    (3)  L_g = - mean d(x~) + lam_mask R + CE(f(x~), y)    "fool", "sparse", "class"
    (4)  m = sigmoid(s_k e);  s_k from 1/s_max to s_max, linear in the step
    (5)  R = sum m (1 - u) / sum (1 - u)
    (6)  grad of weight ij, times 1 - min(u_i, u_j)
    (7)  grad of e, times (s_max / s_k) (cosh(s_k e) + 1) / (cosh(e) + 1)
s = 1/(seen + 1); x^ on the line from x to x~; e scores of the current mask; u 1 where a past mask
has 1. The CE of Eq. 3 is there only if an experience has several classes. Eq. 7 gives e the
gradient that it would have with slope s_max and no saturation. At the end m is rounded to 0 or 1.

Carried. Weights of solver and generator, the masks of all past experiences, and which classes each
of these had, all in the role of the generator; how many experiences were seen. No real samples.

Toggle. `mask`: "units" (DGMa), "weights" (DGMw), "none": fine-tuning of the generator. `grow`.

Deviations. The output layer is shared and gated, the class a one-hot input (the authors' code has
an output layer and a batch norm per class, and then masks are hardly needed); no batch norm.
Images in [0, 1]. One step of f and d together, on as many old images as new ones, weighted by s;
the authors' code takes a step for each class seen. s_k rises once, R is not rescaled as the
network grows, no epoch is selected on real images of the past. Eq. 7 clamps s_k e to +-50.

Reference. Ostapenko et al. 2019, section 3, and its code; Serra et al. 2018, sections 2.3-2.5.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F

from cltutor.nets.masked import Discriminator, MaskedGenerator
from cltutor.seeds import build, split_seed, state
from cltutor.stream import Tick, batches, visible


@dataclass(frozen=True)
class Config:
    steps: int = field(default=300, metadata=dict(source="ours; per experience", range=(1, 10**5)))
    batch: int = field(default=64, metadata=dict(source="Ostapenko 2019", range=(1, 4096)))
    lr: float = field(default=2e-3, metadata=dict(source="Ostapenko 2019", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    mask: Literal["none", "units", "weights"] = "units"
    grow: bool = field(default=True, metadata=dict(source="Ostapenko 2019"))
    s_max: float = field(default=400.0, metadata=dict(source="Serra 2018", range=(1.0, 1e6)))
    lam_mask: float = field(default=0.1, metadata=dict(source="ours", range=(0.0, 100.0)))
    lam_gp: float = field(default=1.0, metadata=dict(source="Ostapenko 2019", range=(0.0, 100.0)))
    width: int = field(default=32, metadata=dict(source="ours; of g at first", range=(1, 4096)))
    hidden: int = field(default=100, metadata=dict(source="ours; of f and d", range=(1, 4096)))
    latent: int = field(default=16, metadata=dict(source="ours; size of z", range=(1, 1024)))
    nets: Literal["linear", "conv"] = "linear"


MNIST = dict(steps=1500, width=100, hidden=400, latent=32)
PAPER = dict(steps=9500, nets="conv", width=20, hidden=128, latent=128, s_max=1e5, lam_mask=0.01)
PRESETS = {"dgmw": PAPER | dict(mask="weights", width=6, s_max=1e4, lam_mask=0.08)}
PROFILES = {
    "quick": ("split-digits-10", {}),
    "laptop": ("split-mnist-10", MNIST),
    "paper": ("split-mnist-10", PAPER),
}


def anneal(step: int, steps: int, s_max: float) -> float:
    """s_k of Eq. 4 at step 0, ..., steps - 1."""
    return 1 / s_max + (s_max - 1 / s_max) * step / max(1, steps - 1)


def sparsity(masks: list[torch.Tensor], used: list[torch.Tensor]) -> torch.Tensor:
    """R of Eq. 5, in [0, 1]: the share of what was free that the masks take; a scalar."""
    taken = sum((m * ~u).sum() for m, u in zip(masks, used, strict=True))
    return taken / max(1, sum(int((~u).sum()) for u in used))


def compensation(e: torch.Tensor, s: float, s_max: float) -> torch.Tensor:
    """The factor of Eq. 7, of the shape of e."""
    return s_max / s * ((s * e).clamp(-50, 50).cosh() + 1) / (e.cosh() + 1)


def gate(layers, reserved, e, s: float, s_max: float) -> None:
    """Eq. 6 on the gradients of the layers, Eq. 7 on those of the scores e; in place."""
    for layer, kept in zip(layers, reserved, strict=True):
        layer.grad.masked_fill_(kept, 0.0)
    for one in e:
        one.grad.mul_(compensation(one.detach(), s, s_max))


def critic_loss(d, x, fake, a, lam_gp) -> torch.Tensor:
    """Eq. 2; a (B, 1, 1, 1) in [0, 1]: where on the line from fake to x the slope is taken."""
    between = (a * x + (1 - a) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(d(between).sum(), between, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return d(fake).mean() - d(x).mean() + lam_gp * penalty


def networks(stream, cfg, device="cpu", carried=None):
    """The learner: untrained, or as `carried` left it, the generator as wide as it has grown."""
    conv = cfg.nets == "conv"
    make = partial(Discriminator, stream.shape, stream.n_classes, cfg.hidden, conv)
    solver = build("solver", make, cfg.seed, device, carried)
    widths, experiences = [4 * cfg.width, 2 * cfg.width, cfg.width] if conv else [cfg.width] * 2, 0
    if carried is not None:
        kept = carried["generator"]
        widths = [len(kept[f"layers.{i}"]) for i in range(len(widths))]
        experiences = len(kept["known"])
    sizes = (stream.shape, stream.n_classes, cfg.latent, widths, cfg.mask, conv, experiences)
    generator = build("generator", partial(MaskedGenerator, *sizes), cfg.seed, device, carried)
    return {"solver": solver, "generator": generator, "features": solver.body}


def run(stream, cfg, *, device="cpu", carried=None):
    """Learn the stream; yield a tick per optimiser step and an end tick per experience."""
    for exp in stream:
        # What this experience starts from
        learner = networks(stream, cfg, device)  # a new solver, the old generator
        generator = networks(stream, cfg, device, carried)["generator"]
        solver, learner["generator"] = learner["solver"], generator
        seen = 0 if carried is None else carried["seen"]
        s, names = 1 / (seen + 1), ("batches", "replay", "old", "z", "line", "mask", "grow")
        rng = split_seed(cfg.seed, exp.k, *names)
        if seen:
            n = len(exp.y) // len(exp.classes)
            y_ = generator.known.nonzero()[:, 1].repeat_interleave(n)
            x_ = generator.sample(len(y_), rng["replay"], y_)
            old = batches(x_, y_, cfg.batch, cfg.steps, rng["old"], device)
            known = generator.known.float()
            heads = known.T @ known > 0  # [c]: the classes that class c was seen with
        used, reserved, free = generator.used(), generator.reserved(), generator.free()
        e = [torch.randn(shape, generator=rng["mask"]) for shape in generator.masked()]
        e = [one.to(device).requires_grad_() for one in e]
        weights = [*generator.parameters(), *e]
        optimizer_f = torch.optim.Adam(solver.parameters(), lr=cfg.lr, betas=(0.5, 0.999))
        optimizer = torch.optim.Adam(weights, lr=cfg.lr, betas=(0.5, 0.999))
        for step, (x, y) in enumerate(
            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)
        ):
            s_k = anneal(step, cfg.steps, cfg.s_max)
            masks = [torch.sigmoid(s_k * one) for one in e]  # Eq. 4
            z = torch.randn(len(x), cfg.latent, generator=rng["z"]).to(device)
            a = torch.rand(len(x), 1, 1, 1, generator=rng["line"]).to(device)
            fake = generator(z, y, masks)
            new = F.cross_entropy(visible(solver(x), exp.classes, stream.scenario), y)
            critic = critic_loss(solver.score, x, fake.detach(), a, cfg.lam_gp)
            losses, loss = {"new": new, "critic": critic}, s * new
            if seen:
                x_, y_ = next(old)
                logits = visible(solver(x_), heads[y_], stream.scenario)
                losses["replayed"] = F.cross_entropy(logits, y_)
                loss = loss + (1 - s) * losses["replayed"]  # Eq. 1
            optimizer_f.zero_grad()
            (loss + critic).backward()
            optimizer_f.step()
            loss = losses["fool"] = -solver.score(fake).mean()
            if e:
                losses["sparse"] = sparsity(masks, used)
                loss = loss + cfg.lam_mask * losses["sparse"]
            if len(exp.classes) > 1:
                logits = visible(solver(fake), exp.classes, stream.scenario)
                losses["class"] = F.cross_entropy(logits, y)
                loss = loss + losses["class"]  # Eq. 3
            optimizer.zero_grad()
            loss.backward()
            gate(generator.layers, reserved, e, s_k, cfg.s_max)
            optimizer.step()
            yield Tick(exp.k, step + 1, cfg.steps, losses, learner)
        # What survives to the next experience
        generator.remember(exp.classes, [one.detach() > 0 for one in e])
        if cfg.grow:
            generator.grow(generator.new_units(free), rng["grow"])
        carried = {"solver": state(solver), "generator": state(generator), "seen": seen + 1}
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
