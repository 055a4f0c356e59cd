"""MeRGAN: a conditional GAN that learns class after class and goes on drawing the old ones.

Idea. A generator g draws an image from a latent z and a class c; a critic with a score D and a
class head f judges it. Before an experience g is copied: g', the teacher, dreams the past. Joint
retraining ("jtr") mixes its dreams with the real images, so g has to draw each old class somehow;
replay alignment ("ra") asks g for the very image that g' draws at the same (z, c).

Loss. On current images x of classes c, drawn ones x_ = g(z, c), and x* between the two at random,
    (1)  V = D(x_) - D(x) + 10 (|dD(x*) / dx*| - 1)^2 + CE(f(x), c)
    (2)  W = -D(x_) + CE(f(x_), c)
    (3)  L_D = s V + (1 - s) V'                              "critic"
    (4)  L_g = s W + (1 - s) W'                              "drawn"
    (5)        + lam_ra |g(z, c) - g'(z, c)|^2               "align"
    (6)        + lam_ewc sum_i F_i (theta_i - theta'_i)^2    "keep"
means over the batch, in Eq. 5 over z and past classes c; CE in nats; pixels in [-1, 1]; a norm over
all pixels of an image. V', W' are on images of the past; s = 1/(seen + 1), or 1 without such. F:
Fisher diagonal of g' on past classes, Gaussian pixels (gan.py): Eq. 6 is Eq. 5 to second order
without products of two weights, so lam_ra and lam_ewc are of one kind.

Carried. Weights of generator and critic; which classes have met; how many experiences were seen.
Real samples only with mode="joint": all of them as 8-bit pixels, with labels (role `buffer`).

Toggle. `mode`: "sft" (fine-tuning), "ewc" (Eq. 6), "jtr" (V', W' on dreams), "ra" (Eq. 5), "joint"
(V', W' on stored images: it sees all real data so far). lam_ra=0, lam_ewc=0: "sft". `net`.

Deviations. R evaluates the class head f, which "jtr" and "joint" alone show old classes: elsewhere
it forgets, whatever g does. Norms of one image, not of the batch. Each experience has equal weight;
their code sums over the k old classes. Its 1e-3 is on half the sum over 64 images, divided by k:
our lam_ra = 0.032/k. Their F is unpublished. A step is the critic's.

Reference. Wu et al. 2018, sections 3, 4.1; Gulrajani et al. 2017; Odena, Olah & Shlens 2017.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import nn

from cltutor.gan import critic_loss, fisher, generator_loss, spring
from cltutor.nets.gan import Critic, Generator, Signed
from cltutor.seeds import build, frozen_copy, split_seed, state
from cltutor.stream import Tick, batches, keep, mates


@dataclass(frozen=True)
class Config:
    steps: int = field(default=450, metadata=dict(source="ours; per experience", range=(1, 10**6)))
    batch: int = field(default=64, metadata=dict(source="Wu 2018, code", range=(1, 4096)))
    lr: float = field(default=1e-3, metadata=dict(source="ours", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    mode: Literal["sft", "ewc", "jtr", "ra", "joint"] = "ra"
    net: Literal["mlp", "conv"] = "mlp"
    hidden: int = field(default=128, metadata=dict(source="ours; per layer", range=(4, 4096)))
    latent: int = field(default=16, metadata=dict(source="ours; size of z", range=(1, 1024)))
    critic_steps: int = field(default=3, metadata=dict(source="ours; per one of G", range=(1, 100)))
    lam_ra: float = field(default=1.0, metadata=dict(source="ours", range=(0.0, 1e9)))
    lam_ewc: float = field(default=1e3, metadata=dict(source="ours: a grid", range=(0.0, 1e9)))


PRESETS = {"wu": dict(steps=20_005, lr=1e-4, net="conv", latent=128, critic_steps=5, lam_ra=0.01)}
PRESETS["small"] = dict(steps=1500, hidden=256, latent=32, lam_ra=0.1)
PROFILES = {"quick": ("split-digits-10", {}), "laptop": ("split-mnist-10", PRESETS["small"])}
PROFILES["paper"] = ("split-mnist-10", PRESETS["wu"])
FISHER = 200  # images in the mean of F; lam_ewc: of 10, 100, 1e3, 1e4 the best on fakes, seed 10


def align(u, u_) -> torch.Tensor:
    """Eq. 5 without its factor: mean over the batch of an image's squared distance, all pixels."""
    return (u - u_).square().flatten(1).sum(1).mean()


def past(teacher, buffer, n, rng) -> tuple[torch.Tensor, torch.Tensor]:
    """n images of the past (n, C, H, W) in [-1, 1] and their classes (n,): stored, or dreams."""
    c = teacher.any_met(n, rng)
    if not buffer:
        return teacher(teacher.noise(n, rng), c), c
    pick = torch.randint(len(buffer["y"]), (n,), generator=rng)
    return buffer["x"][pick].to(c.device) / 127.5 - 1, buffer["y"][pick].to(c.device)


def networks(stream, cfg, device="cpu", carried=None):
    """The learner: untrained, or as `carried` left it. Solver and features are the critic's."""
    sizes = stream.shape, stream.n_classes, cfg.hidden
    make = partial(Generator, *sizes, cfg.latent, cfg.net)
    generator = build("generator", make, cfg.seed, device, carried)
    critic = build("critic", partial(Critic, *sizes, cfg.net), cfg.seed, device, carried)
    features = nn.Sequential(Signed(), critic.body)
    solver = nn.Sequential(features, critic.head)
    return {"solver": solver, "features": features, "generator": generator, "critic": critic}


def run(stream, cfg, *, device="cpu", carried=None):
    """Learn the stream; yield a tick per optimiser step and an end tick per experience."""
    for exp in stream:
        # What this experience starts from
        learner = networks(stream, cfg, device, carried)
        generator, critic = learner["generator"], learner["critic"]
        teacher, anchor, importance = frozen_copy(generator), state(generator), None
        seen, buffer = (0, None) if carried is None else (carried["seen"], carried.get("buffer"))
        replaying = seen > 0 and cfg.mode in ("jtr", "joint")
        s = 1 / (seen + 1) if replaying else 1.0
        known = mates(exp.classes, stream.n_classes, carried and carried["classes"])
        generator.met.copy_(known.diagonal())
        rng = split_seed(cfg.seed, exp.k, "batches", "past", "critic", "between", "generator")
        adam = partial(torch.optim.Adam, lr=cfg.lr, betas=(0.0, 0.9))
        optimizer, optimizer_g = adam(critic.parameters()), adam(generator.parameters())
        if seen and cfg.mode == "ewc":
            z, c = teacher.noise(FISHER, rng["past"]), teacher.any_met(FISHER, rng["past"])
            signs = 2 * torch.randint(2, (FISHER, *stream.shape), generator=rng["past"]) - 1
            importance = fisher(teacher, z, c, signs.to(device))
        for step, (x, y) in enumerate(
            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)
        ):
            u, c, n = 2 * x - 1, y, len(y)
            if replaying:
                dreams = past(teacher, buffer, n, rng["past"])
                u, c = (torch.cat(both) for both in zip((u, c), dreams, strict=True))
            N, heads = len(c), known.to(device)[c]
            weight = torch.where(torch.arange(N, device=device) < n, s, 1 - s) / n
            # 2n draws in any case: with or without a past, those of the current images are the same
            u_ = generator(generator.noise(2 * n, rng["critic"])[:N], c).detach()
            e = torch.rand(2 * n, 1, 1, 1, generator=rng["between"])[:N].to(device)
            loss = (weight * critic_loss(critic, u, u_, e, c, heads, stream.scenario)).sum()
            losses = {"critic": loss}  # Eq. 3
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (step + 1) % cfg.critic_steps == 0:
                u_ = generator(generator.noise(2 * n, rng["generator"])[:N], c)
                loss = (weight * generator_loss(critic, u_, c, heads, stream.scenario)).sum()
                losses["drawn"] = loss  # Eq. 4
                if seen and cfg.mode == "ra":
                    z, c = teacher.noise(n, rng["past"]), teacher.any_met(n, rng["past"])
                    losses["align"] = align(generator(z, c), teacher(z, c))
                    loss = loss + cfg.lam_ra * losses["align"]  # Eq. 5
                if importance:
                    losses["keep"] = spring(generator, anchor, importance)
                    loss = loss + cfg.lam_ewc * losses["keep"]  # Eq. 6
                optimizer_g.zero_grad()
                loss.backward()
                optimizer_g.step()
            yield Tick(exp.k, step + 1, cfg.steps, losses, learner)
        # What survives to the next experience
        carried = {"generator": state(generator), "critic": state(critic), "seen": seen + 1}
        carried["classes"] = known
        if cfg.mode == "joint":
            carried["buffer"] = keep(buffer, exp.x, exp.y)
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
