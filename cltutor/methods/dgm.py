"""Dynamic generative memory: a generator that gives each experience units of its own.

Idea. The generator rehearses nothing. With the images of an experience it learns which of its units
to use for them; afterwards these are reserved: no later step changes a weight between them, and the
old images stay as they are, to the last bit. As much as was reserved grows anew. The solver is the
class head of the discriminator, which learns from real current and generated old images.

Loss. On a batch (x, y) of the current experience, images x~ = g(z, y; m) of its mask m, generated
images x' of old classes y', a discriminator with class head f and critic d,
    (1)  L_f = s CE(f(x), y) + (1 - s) CE(f(x'), y')                "new", "replayed"
    (2)  L_d = mean d(x~) - mean d(x) + lam_gp mean (|grad d(x^)| - 1)^2        "critic"
    (3)  L_g = - mean d(x~) + lam_mask R + CE(f(x~), y)              "fool", "sparse", "class"
    (4)  m = sigmoid(q e),  q from 1/s_max to s_max, linear in the steps
    (5)  R = sum m (1 - u) / sum (1 - u)
    (6)  gradient of weight ij, times 1 - min(u_i, u_j)
    (7)  gradient of e, times (s_max / q) (cosh(q e) + 1) / (cosh(e) + 1)
s = 1/(seen + 1); x^ is drawn on the line from x~ to x; e are the scores of the current mask; u is 1
where a past mask is, and 1 at the constant input, the inputs of the network and the pixels. CE is
in Eq. 3 where an experience has several classes. Eq. 7 makes the gradient of e that of s_max
sigmoid(e), which does not vanish while q rises. At the end m becomes 1 where e > 0, else 0.

Carried. Weights of solver and generator; in the generator's role the masks of all past experiences
too, and which classes each had; which classes have met; how many experiences were seen. No real
samples: the old images of Eq. 1 are drawn once, when an experience begins.

Toggle. `mask`: "units" (DGMa), "weights" (DGMw), "none" (fine-tuning the generator). `grow`.

Deviations. All classes share one output layer, gated, and the class is a one-hot input: with an
output layer and batch norm for each class, as in the authors' code, masks have little left to do.
No batch norm. Eq. 1: one step, as many old as new images; theirs takes a step per class seen. q
rises once and not per epoch, R is not rescaled with growth, no epoch is selected on real past data.
q e is clamped to +-50 in Eq. 7, as in the code of HAT.

Reference. Ostapenko et al. 2019, section 3, and their code; Serra et al. 2018, sections 2.2 to 2.6.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F

from cltutor.gan import slope_penalty
from cltutor.nets.masked import Discriminator, MaskedGenerator
from cltutor.seeds import build, split_seed, state
from cltutor.stream import Tick, batches, mates, visible


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


MNIST = dict(steps=1000, width=64, hidden=200, latent=32)
PAPER = dict(steps=9500, nets="conv", width=20, hidden=128, latent=128, s_max=1e5, lam_mask=0.01)
PRESETS = {"dgmw": PAPER | dict(mask="weights", width=6, s_max=1e4, lam_mask=0.08)}
PROFILES = {
    "quick": ("split-digits-10", {}),
    "laptop": ("split-mnist-10", MNIST),
    "paper": ("split-mnist-10", PAPER),
}


def anneal(step: int, steps: int, s_max: float) -> float:
    """q of Eq. 4 at step 0, ..., steps - 1."""
    return 1 / s_max + (s_max - 1 / s_max) * step / max(1, steps - 1)


def opened(e: torch.Tensor, q: float) -> torch.Tensor:
    """m of Eq. 4, of the shape of e; its slope does not round to 0 where m rounds to 1."""
    return torch.where(e > 0, 1 - torch.sigmoid(-q * e), torch.sigmoid(q * e))


def sparsity(masks: list[torch.Tensor], used: list[torch.Tensor]) -> torch.Tensor:
    """R of Eq. 5, in [0, 1]: the share of what was free that the masks take; a scalar."""
    taken = sum((m * ~u).sum() for m, u in zip(masks, used, strict=True))
    return taken / max(1, sum(int((~u).sum()) for u in used))


def compensation(e: torch.Tensor, q: float, s_max: float) -> torch.Tensor:
    """The factor of Eq. 7, of the shape of e."""
    return s_max / q * ((q * e).clamp(-50, 50).cosh() + 1) / (e.cosh() + 1)


def gate(layers, reserved, e, q: float, s_max: float) -> None:
    """Eq. 6 on the gradients of the layers, Eq. 7 on those of the scores e; in place."""
    for layer, kept in zip(layers, reserved, strict=True):
        layer.grad.masked_fill_(kept, 0.0)
    for one in e:
        one.grad.mul_(compensation(one.detach(), q, s_max))


def critic_loss(d, x, fake, a, lam_gp) -> torch.Tensor:
    """Eq. 2; a (B, 1, 1, 1) in [0, 1]: where on the line from fake to x the slope is taken."""
    penalty = slope_penalty(d, x, fake, a).mean()
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
        s = 1 / (seen + 1)
        rng = split_seed(cfg.seed, exp.k, "batches", "replay", "old", "z", "line", "mask", "grow")
        known = mates(exp.classes, stream.n_classes, carried and carried["classes"])
        if seen:  # of every old class as many images as of a current one
            y_ = generator.known.nonzero()[:, 1].repeat_interleave(len(exp.y) // len(exp.classes))
            x_ = generator.sample(len(y_), rng["replay"], y_)
            old = batches(x_, y_, cfg.batch, cfg.steps, rng["old"], device)
        used, reserved, free = generator.used(), generator.reserved(), generator.free()
        e = [torch.randn(shape, generator=rng["mask"]) for shape in generator.masked()]
        e = [one.to(device).requires_grad_() for one in e]
        weights = [*generator.parameters(), *e]
        optimizer_f = torch.optim.Adam(solver.parameters(), lr=cfg.lr, betas=(0.5, 0.999))
        optimizer = torch.optim.Adam(weights, lr=cfg.lr, betas=(0.5, 0.999))
        for step, (x, y) in enumerate(
            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)
        ):
            q = anneal(step, cfg.steps, cfg.s_max)
            masks = [opened(one, q) for one in e]
            z = torch.randn(len(x), cfg.latent, generator=rng["z"]).to(device)
            a = torch.rand(len(x), 1, 1, 1, generator=rng["line"]).to(device)
            fake = generator(z, y, masks)
            new = F.cross_entropy(visible(solver(x), exp.classes, stream.scenario), y)
            critic = critic_loss(solver.score, x, fake.detach(), a, cfg.lam_gp)
            losses, loss = {"new": new, "critic": critic}, s * new
            if seen:
                x_, y_ = next(old)
                logits = visible(solver(x_), known.to(device)[y_], stream.scenario)
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
            gate(generator.layers, reserved, e, q, cfg.s_max)
            optimizer.step()
            yield Tick(exp.k, step + 1, cfg.steps, losses, learner)
        # What survives to the next experience
        generator.remember(exp.classes, [one.detach() > 0 for one in e])
        if cfg.grow:
            generator.grow(generator.new_units(free), rng["grow"])
        carried = {"solver": state(solver), "generator": state(generator)}
        carried |= {"seen": seen + 1, "classes": known}
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
