"""The exercises of notebook 05."""

import torch

from cltutor.check.hints import Hint, expect


def _same(value, expected: torch.Tensor) -> bool:
    return bool(torch.allclose(value.double(), expected.double(), atol=1e-4))


def _posterior_mean(function) -> None:
    # Two images of two pixels, ab = 0.64: their centres are at 0.8 times them, variance 0.36.
    images = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64).view(2, 1, 1, 2)
    x_t = torch.tensor([[0.1, 0.0], [0.0, 0.0], [-0.3, 0.2]], dtype=torch.float64)
    x_t, ab = x_t.view(3, 1, 1, 2), 0.64
    value = function(x_t, images, ab)
    expect(torch.is_tensor(value), "Return a tensor, one image for each x_t.")
    expect(
        value.shape == x_t.shape,
        f"One image for each x_t: {tuple(x_t.shape)}; {tuple(value.shape)} came back.",
    )

    def weighted(scale=ab**0.5, spread=2 * (1 - ab), power=2):
        distances = torch.cdist(x_t.flatten(1), scale * images.flatten(1)) ** power
        return ((-distances / spread).softmax(1) @ images.flatten(1)).view_as(x_t)

    expect(
        not _same(value, weighted(scale=1)),
        "By Eq. 1 x_t lies around the square root of ab_t times an image, not around the image.",
    )
    expect(not _same(value, weighted(scale=ab)), "The image is scaled by the root of ab_t.")
    expect(
        not _same(value, weighted(spread=1 - ab)),
        "A normal density has a factor 1/2 in its exponent.",
    )
    expect(
        not _same(value, weighted(spread=2 * (1 - ab) ** 0.5)),
        "1 - ab_t is the variance; its root is the standard deviation.",
    )
    expect(
        not _same(value, weighted(spread=2)), "How wide the density is depends on ab_t: 1 - ab_t."
    )
    expect(
        not _same(value, weighted(power=1)),
        "The exponent of a normal density is a square distance.",
    )
    expect(
        not _same(value, weighted() * ab**0.5),
        "The mean of the images themselves: they are scaled for their weights alone.",
    )
    nearest = images[torch.cdist(x_t.flatten(1), ab**0.5 * images.flatten(1)).argmin(1)]
    expect(not _same(value, nearest), "That is the likeliest image; asked is the weighted mean.")
    expect(
        not _same(value, images.mean(0).expand_as(x_t)),
        "Each x_t has weights of its own: the softmax runs over the images.",
    )
    expect(_same(value, weighted()), "At ab = 0.64 two images of two pixels get other weights.")
    far = function(50 + x_t, images, ab)
    expect(
        not bool(far.isnan().any()),
        "Far from all images the densities vanish, and 0 / 0 came back: take a softmax instead.",
    )


def _snr_spacing(function) -> None:
    # Logarithms of the ratio: 4, 2.2, 2, 1, -1.9, -3, -4.
    ratio = torch.tensor([4, 2.2, 2, 1, -1.9, -3, -4], dtype=torch.float64)
    ab = ratio.sigmoid()
    value = function(ab, 5)
    try:
        times = [int(t) for t in value]
    except TypeError:
        raise Hint("Return a list of times.") from None
    expect(
        times != sorted(times) or len(times) < 2,
        "The noisiest time comes first: the list falls.",
    )
    expect(len(times) == len(set(times)), "A time that comes twice is kept once.")
    even = (ab.min() + (ab.max() - ab.min()) * torch.linspace(0, 1, 5)).double()
    by_ab = (ab[:, None] - even).abs().argmin(0).tolist()
    expect(
        times != sorted(set(by_ab), reverse=True),
        "That is evenly spaced in ab; asked is the logarithm of ab / (1 - ab).",
    )
    log = ab.log()
    even = log.min() + (log.max() - log.min()) * torch.linspace(0, 1, 5).double()
    by_log = (log[:, None] - even).abs().argmin(0).tolist()
    expect(
        times != sorted(set(by_log), reverse=True),
        "That is evenly spaced in log ab; divide by 1 - ab first.",
    )
    # Wanted: -4, -2, 0, 2, 4; nearest to 0 is 1, at t = 3.
    expect(times == [6, 4, 3, 2, 0], f"[6, 4, 3, 2, 0] was to come out; {times} came back.")
    # Wanted: -4, -2.4, -0.8, 0.8, 2.4, 4; -1.9 is nearest to two of them.
    twice = [int(t) for t in function(ab, 6)]
    expect(twice == [6, 4, 3, 1, 0], "With 6 values one time comes twice: keep it once.")
    expect(isinstance(value, list), "A sampler takes a list of whole numbers.")


EXERCISES = {"05-posterior-mean": _posterior_mean, "05-snr-spacing": _snr_spacing}
