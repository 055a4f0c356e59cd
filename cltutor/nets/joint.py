"""One network that sees noise and tells classes, and beside it the pair of two networks.

A classifier of the joint model reads what the denoiser's encoder makes of the clean image at t = 0
(Deja et al. 2023, section 4.1). Both kinds are a `Diffuser` with `logits` and `features`.
"""

import torch
from torch import Tensor, nn

from cltutor.diffusion import to_model
from cltutor.nets.solver import make_solver
from cltutor.nets.unet import Diffuser

# width of the first level, levels (blocks of the MLP), hidden units of the head or the solver
SIZES = {"mlp": (128, 3, 100), "unet": (16, 2, 200), "attention": (48, 3, 512)}
SOLVERS = {"mlp": "mlp", "unet": "conv", "attention": "resnet"}  # beside which denoiser
SLOPE = 0.2  # of the head's leaky unit (JDCL's code)


class Separate(Diffuser):
    """A denoiser and a classifier that share no weight: the model that "joint" is compared with.

    Args:
        shape: (C, H, W) of an image.
        n_classes: outputs of the classifier.
        net: "mlp", "unet", or "attention"; its sizes are those of SIZES.
        steps: of `sample`.
    """

    def __init__(self, shape, n_classes: int, net: str, steps: int):
        width, levels, hidden = SIZES[net]
        super().__init__(shape, net, width, levels, zero_snr=False, steps=steps)
        self.solver = make_solver(SOLVERS[net], shape, n_classes, hidden)

    def features(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> what the last layer reads, (B, F)."""
        return self.solver.body(x)

    def logits(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> logits (B, n_classes)."""
        return self.solver(x)


class Joint(Diffuser):
    """A denoiser whose encoder, pooled level by level at t = 0, is read by a classifier's head.

    Args: those of `Separate`.
    """

    def __init__(self, shape, n_classes: int, net: str, steps: int):
        width, levels, hidden = SIZES[net]
        super().__init__(shape, net, width, levels, zero_snr=False, steps=steps)
        self.head = nn.Sequential(
            nn.LazyLinear(hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, n_classes)
        )
        with torch.no_grad():
            self.logits(torch.zeros(1, *shape))  # tells the first layer its width

    def pooled(self, x: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) in [0, 1] -> the mean over the pixels of every level, (B, F_i)."""
        t = torch.zeros(len(x), dtype=torch.long, device=x.device)
        _, levels = self.denoiser.encode(to_model(x), t)
        return [level.flatten(2).mean(2) if level.ndim == 4 else level for level in levels]

    def features(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> all pooled levels beside each other, (B, F)."""
        return torch.cat(self.pooled(x), 1)

    def logits(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> logits (B, n_classes)."""
        return self.head(self.features(x))


class Reader(nn.Module):
    """A model as the kit's learners are called: images in, logits or features out.

    Args:
        model: a `Joint` or `Separate`.
        features: whether features are given instead of logits.
    """

    def __init__(self, model: Separate | Joint, features: bool = False):
        super().__init__()
        self.model, self.features = model, features

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, n_classes), or features (B, F)."""
        return self.model.features(x) if self.features else self.model.logits(x)
