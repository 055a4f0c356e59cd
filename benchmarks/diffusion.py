"""What sampling costs beside the network's own time.

    python benchmarks/diffusion.py [--steps 50] [--repeats 9] [--threads 1]

Prints, for DDIM with the UNet of the profile `laptop` on 64 images of 14x14: milliseconds per step
of our sampler, of the one of diffusers and of a bare loop with the formulas in it, all three in
turn, the ratios with their spread (aim: at most 1.05), and ours beyond the network itself. A step
of distillation beside its passes is in distillation.py.
"""

import argparse
import statistics

import torch
from diffusers import DDIMScheduler

from benchmarks.common import in_turn, noise_images, ratios, seconds, spread
from cltutor import diffusion, recipe
from cltutor.methods import diffusion_replay
from cltutor.streams import split

BATCH = 64


def samplers(steps: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of our DDIM, that of diffusers, a bare loop, and the network alone.

    Raises SystemExit where the two would go over other times, AssertionError where they give other
    images.
    """
    cfg = recipe.configure("diffusion_replay", "laptop")[1]
    stream = split(noise_images(14), 2)
    generator = diffusion_replay.networks(stream, cfg)["generator"].eval()
    x, ab = torch.randn(BATCH, *stream.shape), generator.ab
    theirs = DDIMScheduler(timestep_spacing="trailing", clip_sample=True, set_alpha_to_one=True)
    theirs.set_timesteps(steps)
    if len(ab) % steps:
        raise SystemExit(f"choose --steps that divide {len(ab)}: else diffusers goes elsewhere.")
    times = diffusion.timesteps(len(ab), steps)

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
    turns = {name: lambda n, work=work: seconds(work) for name, work in works.items()}
    return in_turn(turns, repeats)


def report(steps: int, repeats: int) -> None:
    """Measure and print."""
    spent = samplers(steps, repeats)
    print(f"DDIM, {steps} steps of {BATCH} images of 14x14, ms per step:")
    for name, found in spent.items():
        print(f"  {name:10} {1e3 * statistics.median(found) / steps:7.3f}")
    for name in ("diffusers", "bare loop", "network"):
        print(f"  ours by {name}: {spread(ratios(spent['ours'], spent[name]))}")


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    report(chosen.steps, chosen.repeats)


if __name__ == "__main__":
    main()
