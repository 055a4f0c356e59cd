"""The UNet, its sizes, and the generator that is made of a denoiser."""

import pytest
import torch

from cltutor import diffusion
from cltutor.nets.unet import Attention, Diffuser, UNet
from cltutor.seeds import build

PAPER = (64, 128, 256, 512)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def size(net) -> int:
    return sum(weight.numel() for weight in net.parameters())


def test_the_papers_network_has_its_parameters():
    """diffusers' UNet2DModel with the settings of Masip et al. has 42,855,873."""
    assert size(UNet((1, 32, 32), PAPER, attention=True)) == 42_855_873


def test_it_is_diffusers_network_size_by_size():
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.UNet2DModel(
        sample_size=32,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=PAPER,
        down_block_types=["DownBlock2D"] * 3 + ["AttnDownBlock2D"],
        up_block_types=["AttnUpBlock2D"] + ["UpBlock2D"] * 3,
    )
    ours = UNet((1, 32, 32), PAPER, attention=True)
    assert size(ours) == size(theirs)


@pytest.mark.parametrize("side", [8, 14, 28, 32])
@pytest.mark.parametrize("attention", [False, True])
def test_every_side_comes_back(side, attention):
    net = UNet((3, side, side), (8, 16, 32), attention)
    x, t = torch.randn(2, 3, side, side, generator=rng()), torch.tensor([0, 999])
    out = net(x, t)
    assert out.shape == x.shape and out.isfinite().all()
    assert not torch.allclose(net(x, t.flip(0)), out), "it does not see the time"
    assert torch.allclose(net(x[1:], t[1:]), out[1:], atol=1e-4), "it sees the rest of the batch"


def test_attention_looks_everywhere():
    net, h = build("a", lambda: Attention(16), 0), torch.randn(1, 16, 4, 4, generator=rng())
    h.requires_grad_()
    net(h)[0, :, 0, 0].sum().backward()
    assert (h.grad[0, :, 3, 3] != 0).any()


def diffuser(**changes) -> Diffuser:
    settings = dict(net="mlp", width=16, levels=1, zero_snr=False, steps=4) | changes
    return build("generator", lambda: Diffuser((1, 4, 4), **settings), 0)


def test_a_diffuser_draws_by_ddim():
    net = diffuser().eval()
    x = torch.randn(5, 1, 4, 4, generator=rng(3))
    expected = diffusion.last(diffusion.ddim(net, x, diffusion.linear(), 4, rederive=True))
    assert torch.equal(net.sample(5, rng(3)), diffusion.to_image(expected))
    assert net.sample(5, rng(3)).min() >= 0
    with pytest.raises(ValueError, match="no classes"):
        net.sample(5, rng(), classes=torch.zeros(5, dtype=torch.long))


def test_the_schedule_is_no_weight_and_may_end_in_pure_noise():
    assert diffuser().state_dict().keys() == diffuser(zero_snr=True).state_dict().keys()
    assert diffuser().ab[-1] > 0 and diffuser(zero_snr=True).ab[-1] == 0


def test_noise_and_times():
    e, t = diffuser().noise(torch.zeros(4000, 1, 4, 4), rng())
    assert e.shape == (4000, 1, 4, 4) and abs(e.std() - 1) < 0.01
    assert t.min() < 5 and t.max() > 994 and abs(t.float().mean() - 499.5) < 15
