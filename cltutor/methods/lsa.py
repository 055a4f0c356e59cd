"""Latent space alignment: keep the old heads, and build bridges back into the spaces they know.

Idea. Train encoder f and a new head on each experience, with nothing to remember by. Then freeze f
and fit a bridge g that takes its codes to those of the encoder before, f', on images of some
distribution Q, and drop f'. A head of the past reads the new codes through the bridges.

Loss. First on a batch (x, y) of the current experience, then on images q ~ Q,
    (1)  L   = CE(h(f(x)), y)          "new"
    (2)  L_g = |g(f(q)) - f'(q)|^2     "bridge", mean over images of the sum over dimensions
With path="direct", g_j leads from f at once into the space of experience j; its target is what the
solver before made of q there, g_j'(f'(q)).

Carried. Weights of solver (encoder, one head whose rows are the heads, bridges) and generator; how
many experiences were seen. Real samples only with inputs="all": all of them, in role `buffer`.

Toggle. `inputs`, Q: "none" (no bridge: fine-tuning), "current" images, uniform "noise", "generated"
by a VAE that replays itself (loss "vae"), "all" images so far. `parallel`: f from new weights, as
if all encoders had been trained apart. `path`. `wide`: units of a bridge's hidden layer, 0: linear.

Deviations. The slides leave Q, sizes and losses open; all are ours. Bridges begin as the identity.
Heads are trained as in the task scenario, whatever the stream's.

Reference. Skorokhodov 2019, slides; Iscen et al. 2020 map features as well.
"""

from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Literal

import torch
import torch.nn.functional as F

from cltutor.nets.latent import Bridged, Residual, encoder
from cltutor.seeds import build, frozen_copy, split_seed, state
from cltutor.stream import Tick, batches, keep, visible
from cltutor.vae import VAE, negative_elbo


@dataclass(frozen=True)
class Config:
    steps: int = field(default=600, metadata=dict(source="ours; per experience", range=(1, 10**5)))
    batch: int = field(default=64, metadata=dict(source="ours", range=(1, 4096)))
    lr: float = field(default=1e-3, metadata=dict(source="ours", range=(1e-6, 1.0)))
    seed: int = field(default=0, metadata=dict(source="yours", range=(0, 2**31 - 1)))
    hidden: int = field(default=100, metadata=dict(source="ours; of encoder, VAE", range=(1, 4096)))
    latent: int = field(default=32, metadata=dict(source="ours; size of z", range=(1, 1024)))
    inputs: Literal["none", "current", "noise", "generated", "all"] = "current"
    path: Literal["chain", "direct"] = "chain"
    parallel: bool = False
    wide: int = field(default=100, metadata=dict(source="ours; of a bridge", range=(0, 4096)))
    bridging: int = field(default=600, metadata=dict(source="ours; steps", range=(1, 10**5)))


PRESETS = {"all": dict(inputs="all"), "apart": dict(parallel=True)}  # over a profile
PROFILES = {"quick": ("heads-digits", {})}
LARGE = dict(steps=2000, bridging=2000, batch=128, hidden=400, wide=400)
PROFILES["laptop"] = PROFILES["paper"] = ("heads-mnist", LARGE)  # the slides have no experiment
NOISE = 10  # dimensions of the VAE's code


def images(exp, cfg, learner, carried, rng, device):
    """Batches q (B, C, H, W) of Q."""
    kept = [carried["buffer"]["x"].float() / 255] if cfg.inputs == "all" else []
    real = torch.cat([exp.x, *kept])
    while True:
        if cfg.inputs == "noise":
            q = torch.rand(cfg.batch, *exp.x.shape[1:], generator=rng)
        elif cfg.inputs == "generated":
            q = learner["generator"].sample(cfg.batch, rng)
        else:
            q = real[torch.randint(len(real), (cfg.batch,), generator=rng)]
        yield q.to(device)


def networks(stream, cfg, device="cpu", carried=None):
    """The learner: untrained, or as `carried` left it. No generator unless Q is generated."""
    sizes = (stream.shape, stream.n_classes, cfg.hidden, cfg.latent, cfg.wide)
    n = max(0, carried["seen"] - 1) if carried else 0
    make = partial(Bridged, *sizes, n, cfg.path == "chain")
    solver = build("solver", make, cfg.seed, device, carried)
    learner = {"solver": solver, "features": solver.body}
    if cfg.inputs == "generated":
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
        bridging = cfg.bridging if seen and cfg.inputs != "none" else 0
        s, of = 1 / (seen + 1), cfg.steps + bridging
        rng = split_seed(cfg.seed, exp.k, "batches", "vae", "replay", "bridge")
        if seen:
            make = partial(Residual, cfg.latent, cfg.wide)
            solver.bridges.append(build(f"bridge{exp.k}", make, cfg.seed, device))
        if seen and cfg.parallel:
            make = partial(encoder, stream.shape, cfg.hidden, cfg.latent)
            body = build(f"encoder{exp.k}", make, cfg.seed, device)
            solver.body.load_state_dict(body.state_dict())
        solver.owner[torch.tensor(exp.classes)] = seen
        # An encoder and a head
        trained = [*solver.body.parameters(), *solver.head.parameters()]
        trained += generator.parameters() if generator else []
        optimizer = torch.optim.Adam(trained, lr=cfg.lr)
        for step, (x, y) in enumerate(
            batches(exp.x, exp.y, cfg.batch, cfg.steps, rng["batches"], device)
        ):
            logits = solver.head(solver.body(x))
            loss = F.cross_entropy(visible(logits, exp.classes, "task"), y)  # Eq. 1
            losses = {"new": loss}
            if generator:
                e = torch.randn(2, len(x), NOISE, generator=rng["vae"]).to(device)
                losses["vae"] = negative_elbo(*generator(x, e[0]), x)
                if seen:
                    x_ = teacher["generator"].sample(len(x), rng["replay"])
                    past = negative_elbo(*generator(x_, e[1]), x_)
                    losses["vae"] = s * losses["vae"] + (1 - s) * past
                loss = loss + losses["vae"]  # they share no weight
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield Tick(exp.k, step + 1, of, losses, learner)
        # Bridges
        first = -1 if cfg.path == "chain" else 0  # the newest, or all
        if bridging:
            optimizer = torch.optim.Adam(solver.bridges[first:].parameters(), lr=cfg.lr)
        Q = images(exp, cfg, learner, carried, rng["bridge"], device)
        for step, q in enumerate(islice(Q, bridging)):
            with torch.no_grad():
                z, targets = solver.body(q), teacher["solver"].codes(teacher["features"](q))
            codes = torch.stack(solver.codes(z)[:-1][first:])
            loss = (codes - torch.stack(targets[first:])).square().sum(2).mean()  # Eq. 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield Tick(exp.k, cfg.steps + step + 1, of, {"bridge": loss}, learner)
        # What survives to the next experience
        buffer = carried and carried.get("buffer")
        carried = {role: state(net) for role, net in learner.items() if role != "features"}
        carried["seen"] = seen + 1
        if cfg.inputs == "all":
            carried["buffer"] = keep(buffer, exp.x, exp.y)
        yield Tick(exp.k, of, of, {}, learner, carried)
