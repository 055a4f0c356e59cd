"""Joint diffusion: one network that draws images and tells their classes, from local to global.

Idea. A classifier reads the encoder of a denoiser, so one network draws a dream and labels it. A
local copy learns the new experience alone; then the two, the global model of before and the local
one, fill a set of dreams and teach both their outputs to the next global model: no real image.

Loss. u: images x in [-1, 1]; u_t: with noise e at a random time t; eps, f: noise and logits of the
learner; eps', f' of a teacher; H(p, q) = -sum p log q of softmaxes:
    (1)  L   = |eps(u_t, t) - e|^2 + alpha CE(f(x), y)                      local
    (2)  L'  = beta L + |eps(u_t, t) - eps'(u_t, t)|^2 + alpha H(f'(x), f(x))    global
mean over batch and pixels: "eps", "distill_eps"; in nats: "class", "distill". The global model of
before teaches its dreams, the local model its own; a batch has both, each class equally often.
With few labels: CE on labelled images alone, and "pseudo", alpha CE on sure pseudo-labels.

Carried. Weights of the global model; which classes have met; how many experiences were seen; how
many dreams were drawn and kept per class (role `sampled`). Between the stages the local weights.

Toggle. `joint`: one network, or a denoiser and a classifier apart. `distill`: Eq. 2, or Eq. 1 on
dreams with their labels. `two_stage`: off, one stage of `steps` with real images by Eq. 1 and
dreams of the past by Eq. 2. `local_init`: the local model copies the global one or starts anew.
`labels`: the share of images with a label; with 0, alpha = 0.

Deviations. Labels are of EMA weights in eval mode, among the classes that were learnt; theirs are
not. A class that is rarely drawn stays short; theirs is filled with copies. No dropout, one view
unless labels are few, distillation not doubled, EMA .999 (theirs .9999). alpha in quick is ours.

Reference. Skierś & Deja 2025, section 4, and their code; Deja et al. 2023 for Eq. 1.
"""

import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch

from cltutor.diffusion import add_noise, to_model
from cltutor.joint import (
    NEW,
    OLD,
    REAL,
    average,
    fill,
    joint_loss,
    marked,
    merge,
    semi_loss,
    shares,
    taught,
)
from cltutor.nets.joint import Joint, Reader, Separate
from cltutor.seeds import build, frozen_copy, split_seed, state
from cltutor.stream import Tick, batches, mates, visible


@dataclass(frozen=True)
class Config:
    steps: int = field(default=300, metadata=dict(source="ours; local", range=(1, 10**6)))
    batch: int = field(default=64, metadata=dict(source="ours", range=(1, 4096)))
    lr: float = field(default=1e-3, metadata=dict(source="ours", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    global_steps: int = field(default=300, metadata=dict(source="ours", range=(1, 10**6)))
    joint: bool = True
    distill: bool = True
    two_stage: bool = True
    local_init: Literal["copy", "scratch"] = "copy"
    labels: float = field(default=1.0, metadata=dict(source="paper: 1, .05, .008", range=(0, 1)))
    alpha: float = field(default=0.1, metadata=dict(source="ours; .001", range=(0.0, 100.0)))
    beta: float = field(default=0.01, metadata=dict(source="JDCL's code", range=(0.0, 100.0)))
    delay: int = field(default=0, metadata=dict(source="ours; alpha 0 so long", range=(0, 10**6)))
    quota: int = field(default=100, metadata=dict(source="ours; per class", range=(1, 10**5)))
    sample_steps: int = field(default=10, metadata=dict(source="ours", range=(1, 1000)))
    net: Literal["mlp", "unet", "attention"] = "mlp"


# "few": the paper's 5 % of labels
PRESETS = {"separate": dict(joint=False), "neither": dict(distill=False, two_stage=False)}
PRESETS["few"] = dict(labels=0.05)
SMALL = dict(steps=250, lr=2e-3, global_steps=250, quota=250, sample_steps=20, net="unet")
PAPER = dict(steps=4000, batch=256, lr=2e-4, global_steps=2500, alpha=1e-3, delay=1000)
PAPER |= dict(quota=400, sample_steps=250, net="attention")  # JDCL: 100,000 and 70,000 steps
PROFILES = {"quick": ("split-digits", {}), "laptop": ("split-mnist14", SMALL)}
PROFILES["paper"] = ("split-cifar100-5", PAPER)
EMA = 0.999
DRAWS = ("batches", "noise", "labels", "views", "old", "new")


def networks(stream, cfg, device="cpu", carried=None):
    """The learner: untrained, or as `carried` left it. All its parts are views of one model."""
    kind = Joint if cfg.joint else Separate
    make = partial(kind, stream.shape, stream.n_classes, cfg.net, cfg.sample_steps)
    model = build("model", make, cfg.seed, device, carried)
    return {"solver": Reader(model), "features": Reader(model, True), "generator": model}


def run(stream, cfg, *, device="cpu", carried=None):
    """Learn the stream; yield a tick per optimiser step and an end tick per experience."""
    for exp in stream:
        # What this experience starts from
        seen = 0 if carried is None else carried["seen"]
        two, past = seen > 0 and cfg.two_stage, carried and carried["classes"]
        known = mates(exp.classes, stream.n_classes, past)
        stages = {"local": cfg.steps} | ({"global": cfg.global_steps} if two else {})
        taken, of = 0, sum(stages.values())
        if two and "local" in carried:
            taken = stages.pop("local")
        sampled = torch.zeros(2, 2, stream.n_classes, dtype=torch.long)
        for stage, steps in stages.items():
            anew = two and stage == "local" and cfg.local_init == "scratch"
            learner = networks(stream, cfg, device, None if anew else carried)
            ema, model = learner["generator"], copy.deepcopy(learner["generator"])
            draws = split_seed(cfg.seed, exp.k, *(f"{stage} {name}" for name in DRAWS))
            rng = dict(zip(DRAWS, draws.values(), strict=True))
            parts, teachers, dreams = {}, {}, {}
            if stage == "local":
                parts[REAL] = exp.x, exp.y
                if cfg.labels < 1:
                    kept = marked(exp.y, cfg.labels, rng["labels"])
                    few = exp.x[kept].to(device), exp.y[kept].to(device)
                    parts[REAL] = exp.x, torch.full_like(exp.y, -1)
            else:
                now = mates(exp.classes, stream.n_classes, None).diagonal()
                dreams[NEW] = {"model": carried["local"]}, now, known.diagonal()
            if seen and (stage == "global" or not two):
                dreams[OLD] = carried, past.diagonal(), past.diagonal()
            for who, (weights, wanted, learnt) in dreams.items():
                teacher = frozen_copy(networks(stream, cfg, device, weights)["generator"])
                sizes = (cfg.quota, cfg.batch, rng["old" if who == OLD else "new"])
                for pool in fill(teacher, wanted, learnt, *sizes, labels=cfg.labels > 0):
                    sampled[who - 1] = pool.counts
                    yield Tick(exp.k, taken, of, {}, learner)
                parts[who] = pool.x, pool.y if cfg.labels else torch.full_like(pool.y, -1)
                teachers |= {who: teacher} if cfg.distill else {}
            (xs, facts), rows = merge(parts, seen), known.to(device)
            optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr)
            for step, (x, y) in enumerate(
                batches(xs, facts, cfg.batch, steps, rng["batches"], device)
            ):
                y, whose = y.unbind(1)
                heads = rows[y.where(y >= 0, exp.classes[0])]
                u, alpha = to_model(x), cfg.alpha if cfg.labels and step >= cfg.delay else 0.0
                e, t = model.noise(u, rng["noise"])
                u_t = add_noise(u, e, t, model.ab)
                eps, f = model(u_t, t), visible(model.logits(x), heads, stream.scenario)
                rest = (x, u_t, t, heads, e, stream.scenario)
                target, p, has = taught(teachers, whose, *rest)
                own = 1 + (cfg.beta - 1) * has  # Eq. 1 for rows without a teacher
                noise, ce = joint_loss(eps, f, e, shares(y, stream.n_classes), own)
                losses = {"eps": noise, "class": ce}
                if teachers:  # Eq. 2
                    noise, ce = joint_loss(eps, f, target, p, has)
                    losses |= {"distill_eps": noise, "distill": ce}
                if 0 < cfg.labels < 1 and stage == "local":
                    see = partial(visible, classes=exp.classes, scenario=stream.scenario)
                    real = x[whose == REAL]
                    ce, losses["pseudo"] = semi_loss(model, real, few, see, rng["views"])
                    losses["class"] = losses["class"] + ce
                loss = sum(
                    value if name in ("eps", "distill_eps") else alpha * value
                    for name, value in losses.items()
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                average(ema, model, step, EMA)
                taken += 1
                yield Tick(exp.k, taken, of, losses, learner)
            if stage == "local" and two:
                carried = carried | {"local": state(ema)}
                yield Tick(exp.k, taken, of, {}, learner, carried, end=False)
        # What survives to the next experience
        carried = {"model": state(ema), "seen": seen + 1, "classes": known, "sampled": sampled}
        yield Tick(exp.k, taken, of, {}, learner, carried)
