"""What a step of generative distillation costs, and how near the machine's best that is.

    python benchmarks/distillation.py [--device cpu] [--small] [--steps 10]

Builds the denoiser of the profile `paper` (with --small that of `laptop`) on random images and
prints, in float32 and bfloat16, eager and compiled, in channels_last: milliseconds of one GD-2
step, its operations (torch's FlopCounterMode: convolutions and matrix products), the rate reached
and that rate as a fraction of the best square matrix product of the same run. Then the step beside
the sum of its passes, each timed alone: what is left is noise, targets, clipping and bookkeeping.
"""

import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import now, product_rate
from cltutor import cache, diffused
from cltutor.diffusion import add_noise, ddim, last
from cltutor.methods.diffusion_replay import PROFILES
from cltutor.nets.unet import Diffuser
from cltutor.seeds import build, frozen_copy

SIDES = {"paper": 32, "laptop": 14}


class Step:
    """A GD step as in the method's file, and its parts, on `batch` current and replayed images."""

    def __init__(self, profile: str, device: str, compiled: bool):
        self.cfg, side = PROFILES[profile][1], SIDES[profile]
        sizes = [self.cfg[name] for name in ("net", "width", "levels")]
        shape, zero_snr = (1, side, side), self.cfg.get("zero_snr", False)
        make = build("generator", lambda: Diffuser(shape, *sizes, zero_snr, 10), 0)
        self.learner = make.to(device, memory_format=torch.channels_last)
        self.teacher = frozen_copy(self.learner)
        self.adam = torch.optim.Adam(self.learner.parameters(), lr=self.cfg["lr"])
        self.batch, self.rng = self.cfg.get("batch", 64), torch.Generator().manual_seed(0)
        drawn = 2 * torch.rand(self.batch, *shape, generator=self.rng) - 1
        self.u = drawn.to(device, memory_format=torch.channels_last)
        if compiled:
            self.learner.compile(), self.teacher.compile()

    def noised(self, u):
        """e, t, u_t of images u."""
        e, t = self.learner.noise(u, self.rng)
        return e, t, add_noise(u, e, t, self.learner.ab)

    def draw(self):
        """The teacher's two-step dreams."""
        z = self.learner.noise(self.u, self.rng)[0]
        return last(ddim(self.teacher, z, self.teacher.ab, 2)).clamp(-1, 1)

    def ask(self):
        """The teacher's answer to noised images."""
        _, t, u_t = self.noised(self.u)
        with torch.no_grad():
            return self.teacher(u_t, t)

    def train(self):
        """Forward and backward on one batch, without the optimiser."""
        e, t, u_t = self.noised(self.u)
        (self.learner(u_t, t) - e).square().mean().backward()

    def optimise(self):
        """Clip and step."""
        torch.nn.utils.clip_grad_norm_(self.learner.parameters(), 1.0)
        self.adam.step()

    def __call__(self):
        """All of it."""
        e, t, u_t = self.noised(self.u)
        loss = (self.learner(u_t, t) - e).square().mean() / 2
        _, t_, u_t = self.noised(self.draw())
        r = self.teacher(u_t, t_)
        loss = loss + (self.learner(u_t, t_) - r).square().mean() / 2
        self.adam.zero_grad()
        loss.backward()
        self.optimise()


def timed(function, device: str, precision: str, repeats: int) -> float:
    """Seconds of one call: the median of `repeats` after two."""
    bfloat16 = precision == "bfloat16"
    autocast = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=bfloat16)
    seconds = []
    for _ in range(repeats + 2):
        start = now(device)
        with autocast:
            function()
        seconds.append(now(device) - start)
    return sorted(seconds[2:])[repeats // 2]


def measure(profile: str, device: str, precision: str, compiled: bool, repeats: int) -> None:
    """Print the lines of one setting."""
    with FlopCounterMode(display=False) as counter:
        Step(profile, device, False)()
    step = Step(profile, device, compiled)
    seconds = timed(step, device, precision, repeats)
    parts = {
        "2 x train": 2 * timed(step.train, device, precision, repeats),
        "draw": timed(step.draw, device, precision, repeats),
        "ask": timed(step.ask, device, precision, repeats),
        "optimise": timed(step.optimise, device, precision, repeats),
    }
    rate = counter.get_total_flops() / seconds
    best = product_rate(device, getattr(torch, precision))
    how = "compiled" if compiled else "eager"
    print(
        f"{precision} {how}: {1e3 * seconds:.1f} ms per step, "
        f"{counter.get_total_flops() / 1e12:.4f} T operations, {rate / 1e12:.3f} TFLOP/s = "
        f"{rate / best:.0%} of the matrix product's {best / 1e12:.3f}"
    )
    told = ", ".join(f"{name} {1e3 * value:.1f}" for name, value in parts.items())
    print(f"  ms alone: {told}; the step by their sum {seconds / sum(parts.values()):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="the network of the profile laptop")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10, help="calls of which the median is told")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(cache.environment(options.device, "float32 and bfloat16", options.threads))
    print("passes of a batch in a step: GR-2", diffused.cost(2, "noise"), end=", ")
    print("GD-2", diffused.cost(2, "teacher"))
    profile = "laptop" if options.small else "paper"
    for precision in ("float32", "bfloat16"):
        for compiled in (False, True):
            measure(profile, options.device, precision, compiled, options.steps)
