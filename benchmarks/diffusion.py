"""What sampling costs beside the network's own time.

    python benchmarks/diffusion.py [--steps 50] [--repeats 9] [--threads 1]

Prints, for DDIM with the UNet of the profile `laptop` on 64 images of 14x14: milliseconds per step
of our sampler, of the one of diffusers and of a bare loop with the formulas in it, all three in
turn, the ratios with their spread (aim: at most 1.05), and ours beyond the network itself. A step
of distillation beside its passes is in distillation.py.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from diffusers import DDIMScheduler

from cltutor import diffusion, recipe
from cltutor.data import Dataset
from cltutor.methods import diffusion_replay
from cltutor.streams import split

BATCH = 64


def milliseconds(work: Callable[[], object]) -> float:
    """What calling it once takes."""
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def in_turn(works: dict[str, Callable], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each, `repeats` times, in turn, so that all meet the same load."""
    spent = {name: [] for name in works}
    for n in range(repeats + 1):
        for name, work in works.items():
            took = milliseconds(work)
            if n:  # the first round warms up
                spent[name].append(took)
    return spent


def ratio(a: list[float], b: list[float]) -> str:
    """Median of the ratios of neighbours, and their quartiles."""
    low, middle, high = statistics.quantiles([x / y for x, y in zip(a, b, strict=True)], n=4)
    return f"{middle:.3f} (quartiles {low:.3f} to {high:.3f})"


def samplers(steps: int, repeats: int) -> None:
    """Our DDIM, that of diffusers, a bare loop, and the network alone."""
    cfg = recipe.configure("diffusion_replay", "laptop")[1]
    stream = split(noise_images(), 2)
    generator = diffusion_replay.networks(stream, cfg)["generator"].eval()
    x, ab = torch.randn(BATCH, *stream.shape), generator.ab
    times = diffusion.timesteps(len(ab), steps)
    theirs = DDIMScheduler(timestep_spacing="trailing", clip_sample=True, set_alpha_to_one=True)
    theirs.set_timesteps(steps)
    if theirs.timesteps.tolist() != times:
        raise SystemExit(f"choose --steps that divide {len(ab)}: the two stop over elsewhere.")

    def ours():
        return diffusion.last(diffusion.ddim(generator, x, ab, steps, rederive=True))

    @torch.no_grad()
    def other():
        image = x
        for t in theirs.timesteps:
            eps = generator(image, t.expand(BATCH))
            image = theirs.step(eps, t, image, use_clipped_model_output=True).prev_sample
        return image

    @torch.no_grad()
    def bare():
        image = x
        for t, s in zip(times, [*times[1:], None], strict=True):
            a, b = ab[t], ab[s] if s is not None else torch.ones(())
            eps = generator(image, torch.full((BATCH,), t))
            clean = ((image - (1 - a).sqrt() * eps) / a.sqrt()).clamp(-1, 1)
            eps = (image - a.sqrt() * clean) / (1 - a).sqrt()
            image = b.sqrt() * clean + (1 - b).sqrt() * eps
        return image

    @torch.no_grad()
    def network():
        for t in times:
            generator(x, torch.full((BATCH,), t))

    torch.testing.assert_close(ours(), other(), atol=1e-3, rtol=0)
    works = {"ours": ours, "diffusers": other, "bare loop": bare, "network": network}
    spent = in_turn(works, repeats)
    print(f"DDIM, {steps} steps of {BATCH} images {tuple(stream.shape)}, ms per step:")
    for name, found in spent.items():
        print(f"  {name:10} {statistics.median(found) / steps:7.3f}")
    for name in ("diffusers", "bare loop", "network"):
        print(f"  ours by {name}: {ratio(spent['ours'], spent[name])}")


def noise_images() -> Dataset:
    """Random 14x14 images: times do not depend on what they show."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (2000, 1, 14, 14), generator=rng, dtype=torch.uint8)
    y = torch.arange(2000) % 10
    return Dataset("noise", x, y, x[:100], y[:100], 255, tuple("0123456789"), "")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    samplers(chosen.steps, chosen.repeats)


if __name__ == "__main__":
    main()
