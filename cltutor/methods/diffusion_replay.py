"""Diffusion that learns experience after experience: generative replay and distillation.

Idea. A denoiser tells the noise in an image; DDIM draws with it, in few steps. A frozen copy, the
teacher, draws dreams of the past. Generative replay (GR) trains on them as if they were real;
generative distillation (GD) on the noise that the teacher sees when noise is added to them.

Loss. u, u': current images and dreams in [-1, 1]; u_t: with noise e at a random time t; eps, eps':
learner and teacher; f the solver; H(p, q) = -sum p log q of softmaxes of logits / tau:
    (1)  L   = s |eps(u_t, t) - e|^2 + (1 - s) lam |eps(u_t', t') - r|^2
    (2)  r   = e' (GR)    or    r = eps'(u_t', t') (GD)
    (3)  L_f = s CE(f(x), y) + (1 - s) tau^2 H(f'(x'), f(x'))
mean over batch and pixels: "eps_new", "eps_replayed"; in nats: "new", "replayed"; s = 1/(seen + 1).

Carried. Weights of solver and generator; which classes have met; how many experiences were seen.
Real samples only with replay="joint": all of them as 8-bit pixels, with labels (role `buffer`).

Toggle. `target`: "noise" (GR), "teacher" (GD). `replay`: "none" (fine-tuning), "fresh" (dreams for
each step), "pool" (a set drawn once per experience, in as many passes as "fresh"), "joint" (stored
images, r = e'). `where` GD compares them: "replayed", "noise" (no image), "current" (u' = u).

Deviations. The solver, an MLP, shares learning rate and dreams; theirs draws in 10 steps, with H
reversed. DDIM rederives eps. Joint weighs experiences alike. quick, laptop: small, lam = 1.

Reference. Masip, Rodriguez, Tuytelaars & van de Ven 2024, section 3, and their code.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch.nn.utils import clip_grad_norm_

from cltutor.diffusion import add_noise, to_image, to_model
from cltutor.nets.mlp import MLP
from cltutor.nets.unet import Diffuser
from cltutor.seeds import build, frozen_copy, split_seed, state
from cltutor.stream import Tick, batches, keep, mates, visible


@dataclass(frozen=True)
class Config:
    steps: int = field(default=300, metadata=dict(source="ours; per experience", range=(1, 10**6)))
    batch: int = field(default=64, metadata=dict(source="ours", range=(1, 4096)))
    lr: float = field(default=1e-3, metadata=dict(source="ours", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    target: Literal["noise", "teacher"] = "teacher"
    replay: Literal["none", "fresh", "pool", "joint"] = "fresh"
    where: Literal["replayed", "noise", "current"] = "replayed"
    lam: float = field(default=1.0, metadata=dict(source="ours", range=(0.0, 100.0)))
    teacher_steps: int = field(default=2, metadata=dict(source="Masip 2024", range=(1, 1000)))
    sample_steps: int = field(default=10, metadata=dict(source="Masip 2024", range=(1, 1000)))
    pool: int = field(default=384, metadata=dict(source="ours; images", range=(1, 10**6)))
    net: Literal["mlp", "unet", "attention"] = "mlp"
    width: int = field(default=128, metadata=dict(source="ours; first level", range=(4, 512)))
    levels: int = field(default=3, metadata=dict(source="ours; or blocks", range=(1, 6)))
    zero_snr: bool = field(default=False, metadata=dict(source="ours; theirs is True"))
    hidden: int = field(default=100, metadata=dict(source="ours; solver", range=(1, 4096)))


PRESETS = {"gr": dict(target="noise", lam=1.0)}  # Masip 2024; over a profile, all else being equal
SMALL = dict(steps=250, lr=2e-3, net="unet", width=16, levels=2, hidden=400)
PAPER = dict(steps=9400, batch=128, lr=2e-4, net="attention", width=64, levels=4)
PROFILES = {"quick": ("split-digits", {}), "laptop": ("split-mnist14", SMALL)}
PROFILES["paper"] = ("avalanche-fashion32", PAPER | dict(lam=0.75, zero_snr=True, hidden=400))
TAU, CLIP = 2.0, 1.0  # Masip 2024, code: of the soft labels; the largest norm of a gradient


def soft(logits, p, tau=TAU) -> torch.Tensor:
    """tau^2 H(p, f) of Eq. 3, mean over the batch; p = 0, hidden classes included, counts 0."""
    log_q = F.log_softmax(logits / tau, dim=1).masked_fill(p == 0, 0.0)
    return -(tau**2) * (p * log_q).sum(1).mean()


def past(stream, cfg, teacher, carried, pool, u, e, rng):
    """u' (B, C, H, W), the teacher's p of Eq. 3 and the classes visible to each, (B, n_classes)."""
    known, n = carried["classes"].to(u.device), len(u)
    if cfg.replay == "joint":
        pick = torch.randint(len(carried["buffer"]["y"]), (n,), generator=rng)
        u_, y_ = (carried["buffer"][name][pick].to(u.device) for name in ("x", "y"))
        return to_model(u_ / 255), F.one_hot(y_, stream.n_classes).float(), known[y_]
    if cfg.where != "replayed":
        u_ = u if cfg.where == "current" else e
    elif cfg.replay == "pool":
        u_ = pool[torch.randint(len(pool), (n,), generator=rng)]
    else:
        u_ = teacher["generator"].draw(n, rng, cfg.teacher_steps)
    classes = known.diagonal().nonzero().flatten()
    heads = known[classes[torch.randint(len(classes), (n,), generator=rng)]]
    p = F.softmax(visible(teacher["solver"](to_image(u_)), heads, stream.scenario) / TAU, dim=1)
    return u_, p, heads


def networks(stream, cfg, device="cpu", carried=None):
    """The learner: untrained, or as `carried` left it. The generator is the denoiser, too."""
    solver = partial(MLP, stream.shape, stream.n_classes, cfg.hidden)
    solver = build("solver", solver, cfg.seed, device, carried)
    sizes = (stream.shape, cfg.net, cfg.width, cfg.levels, cfg.zero_snr, cfg.sample_steps)
    generator = build("generator", partial(Diffuser, *sizes), cfg.seed, device, carried)
    return {"solver": solver, "features": solver.body, "generator": generator}


def run(stream, cfg, *, device="cpu", carried=None):
    """Learn the stream; yield a tick per optimiser step and an end tick per experience."""
    for exp in stream:
        # What this experience starts from
        learner = networks(stream, cfg, device, carried)
        solver, generator, ab = learner["solver"], learner["generator"], learner["generator"].ab
        teacher = {role: frozen_copy(net) for role, net in learner.items()}
        seen = 0 if carried is None else carried["seen"]
        replaying, pool = seen > 0 and cfg.replay != "none", []
        joint = cfg.replay == "joint"
        distilling = cfg.target == "teacher" and not joint
        s, lam = (1 / (seen + 1), cfg.lam) if replaying else (1.0, 0.0)
        rng = split_seed(cfg.seed, exp.k, "batches", "noise", "again", "replay")
        optimizer = torch.optim.Adam([*generator.parameters(), *solver.parameters()], lr=cfg.lr)
        if replaying and cfg.replay == "pool":
            each = min(1000, cfg.steps * cfg.batch * cfg.teacher_steps // cfg.pool) or 1
            for part in torch.arange(cfg.pool).split(cfg.batch):
                pool.append(teacher["generator"].draw(len(part), rng["replay"], each))
                yield Tick(exp.k, 0, cfg.steps, {}, learner)
            pool = torch.cat(pool)
        for step, (x, y) in enumerate(
            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)
        ):
            u = to_model(x)
            e, t = generator.noise(u, rng["noise"])
            losses = {"eps_new": (generator(add_noise(u, e, t, ab), t) - e).square().mean()}
            losses["new"] = F.cross_entropy(visible(solver(x), exp.classes, stream.scenario), y)
            loss = s * (losses["eps_new"] + losses["new"])
            if replaying:
                e_, t_ = generator.noise(u, rng["again"])
                u_, p, heads = past(stream, cfg, teacher, carried, pool, u, e_, rng["replay"])
                u_t = e_ if cfg.where == "noise" else add_noise(u_, e_, t_, ab)
                r = teacher["generator"](u_t, t_) if distilling else e_  # Eq. 2: GD, else GR
                losses["eps_replayed"] = (generator(u_t, t_) - r).square().mean()
                losses["replayed"] = soft(visible(solver(to_image(u_)), heads, stream.scenario), p)
                loss = loss + (1 - s) * (lam * losses["eps_replayed"] + losses["replayed"])
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(generator.parameters(), CLIP)
            optimizer.step()
            yield Tick(exp.k, step + 1, cfg.steps, losses, learner)
        # What survives to the next experience
        known = mates(exp.classes, stream.n_classes, carried and carried["classes"])
        kept = {"buffer": keep(carried and carried["buffer"], exp.x, exp.y)} if joint else {}
        carried = {"solver": state(solver), "generator": state(generator), "seen": seen + 1}
        carried |= {"classes": known} | kept
        yield Tick(exp.k, cfg.steps, cfg.steps, {}, learner, carried)
