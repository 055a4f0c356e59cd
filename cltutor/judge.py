"""Judges: one classifier per data set, trained once on all real classes, to grade generated images.

From a judge come the accuracy on fakes (does a sample asked of class c look like c?), the class
histogram of samples, and FD on judge features: the Fréchet distance of Heusel et al. 2017, section
2, with the judge's penultimate layer in place of Inception's. It is not FID, and values of two
judges do not compare. `python -m cltutor.judge NAME` trains a judge and writes it to
data/judges/NAME.safetensors.
"""

import argparse
import json
import struct
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cltutor import data, metrics, shipped
from cltutor.errors import InstallError, UserError
from cltutor.nets.cnn import CNN
from cltutor.nets.mlp import MLP
from cltutor.seeds import build, split_seed
from cltutor.stream import batches


class Judge(nn.Module):
    """A trained classifier in eval mode, which works in batches and without gradients.

    Images are float (N, C, H, W) in [0, 1], of the judge's own shape; else UserError. `facts`:
    name, shape, n_classes, seed, steps, test_accuracy, and `data`, the checksum of the data set.
    """

    def __init__(self, net: CNN, facts: dict):
        super().__init__()
        self.net, self.facts = net, facts
        self.eval()

    def logits(self, x: Tensor) -> Tensor:
        """(N, n_classes), on the judge's device."""
        return self._batched(self.net, x)

    def features(self, x: Tensor) -> Tensor:
        """(N, d), non-negative: the penultimate layer."""
        return self._batched(self.net.features, x)

    def predict(self, x: Tensor) -> Tensor:
        """(N,) int64: the most likely class of each image."""
        return self.logits(x).argmax(1)

    def _batched(self, function, x: Tensor) -> Tensor:
        shape = tuple(self.facts["shape"])
        if tuple(x.shape[1:]) != shape or not x.is_floating_point():
            raise UserError(
                f"the judge of {self.facts['name']} takes float images in [0, 1] of shape "
                f"(N, {', '.join(map(str, shape))}); got {x.dtype} {tuple(x.shape)}"
            )
        device = self.net.head.weight.device
        with torch.no_grad():
            return torch.cat([function(part.to(device)) for part in x.split(250)])


def load(name: str) -> Judge:
    """The judge of the data set `name`, on the CPU.

    Raises UserError if there is none (with the command that trains it) or its file is altered.
    """
    file = f"judges/{name}.safetensors"
    if not (shipped.data_dir() / file).exists():
        raise UserError(f"no judge for {name!r}: train it with `python -m cltutor.judge {name}`")
    content = shipped.embedded(file)
    # safetensors: the length of the header, then the header as JSON.
    (length,) = struct.unpack("<Q", content[:8])
    facts = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["judge"])
    net = CNN(tuple(facts["shape"]), facts["n_classes"])
    net.load_state_dict(safetensors.torch.load(content))
    return Judge(net, facts)


def accuracy_on(judge: Judge, x: Tensor, y: Tensor) -> float:
    """Share in [0, 1] of the images `x` that the judge takes for their class `y` (N,).

    With generated images and the classes asked for, this is the measure of MeRGAN (Wu et al. 2018):
    the accuracy on samples of a classifier trained on real data.
    """
    predicted = judge.predict(x)
    return (predicted == y.to(predicted.device)).float().mean().item()


def class_histogram(judge: Judge, x: Tensor, n_classes: int) -> np.ndarray:
    """Share of the images that the judge takes for each class: (n_classes,), summing to 1."""
    return metrics.class_histogram(judge.predict(x).cpu(), n_classes)


def fd(judge: Judge, x_a: Tensor, x_b: Tensor) -> float:
    """FD on judge features between two sets of images, >= 0; 0 for two equal sets.

    Small sets bias it upwards: compare only values of sets of the same sizes, drawn at random (the
    digits are in the order of their writers, and two halves of one split differ by that alone).
    """
    return metrics.frechet_distance(judge.features(x_a).cpu(), judge.features(x_b).cpu())


def fd_bounds(judge: Judge, dataset: data.Dataset) -> tuple[float, float]:
    """(floor, ceiling) of `fd` against the train images: the test images; as much uniform noise.

    The ceiling is a mark, not a bound: blank images, or samples of one class only, can exceed it.
    """
    train, test = (x.float() / dataset.levels for x in (dataset.x_train, dataset.x_test))
    noise = torch.rand(test.shape, generator=split_seed(0, 0, "noise")["noise"])
    features = judge.features(train).cpu()
    floor, ceiling = (
        metrics.frechet_distance(judge.features(x).cpu(), features) for x in (test, noise)
    )
    return floor, ceiling


def reverse_accuracy(x: Tensor, y: Tensor, dataset: data.Dataset, steps=500, seed=0) -> float:
    """Accuracy on real test images of a solver that was trained on the images `x` alone.

    It sees what the accuracy on fakes does not: images that all look alike teach little. The solver
    is the kit's own, of two hidden layers with 100 units, after `steps` batches of 64; it is tested
    on the test images of the classes in `y` (N,). Shmelkov et al. 2018, GAN-train.
    """
    net = build("reverse", lambda: MLP(tuple(x.shape[1:]), len(dataset.class_names), 100), seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    for images, classes in batches(x, y, 64, steps, split_seed(seed, 0, "reverse")["reverse"]):
        optimiser.zero_grad()
        F.cross_entropy(net(images), classes).backward()
        optimiser.step()
    mine = torch.isin(dataset.y_test, y)
    with torch.no_grad():
        predicted = net(dataset.x_test[mine].float() / dataset.levels).argmax(1)
    return (predicted == dataset.y_test[mine]).float().mean().item()


def train(dataset: data.Dataset, steps: int = 2000, seed: int = 0) -> Judge:
    """A new judge: Adam on batches of 128, the learning rate falling from 0.005 along a cosine."""
    shape, n_classes = tuple(dataset.x_train.shape[1:]), len(dataset.class_names)
    net = build("judge", lambda: CNN(shape, n_classes), seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    rng = split_seed(seed, 0, "batches")["batches"]
    for x, y in batches(dataset.x_train, dataset.y_train, 128, steps, rng):
        optimiser.zero_grad()
        F.cross_entropy(net(x.float() / dataset.levels), y).backward()
        optimiser.step()
        schedule.step()
    facts = {"name": dataset.name, "shape": shape, "n_classes": n_classes, "seed": seed}
    judge = Judge(net, facts | {"steps": steps, "data": dataset.checksum})
    accuracy = accuracy_on(judge, dataset.x_test.float() / dataset.levels, dataset.y_test)
    judge.facts["test_accuracy"] = round(accuracy, 6)
    return judge


def save(judge: Judge, folder: Path) -> Path:
    """Write the judge and its checksum below `folder`, the data folder."""
    # One entry, because safetensors writes several in no fixed order.
    content = safetensors.torch.save(judge.net.state_dict(), {"judge": json.dumps(judge.facts)})
    return shipped.write_embedded(folder, f"judges/{judge.facts['name']}.safetensors", content)


def main() -> None:
    """Train a judge and write it to data/judges/ from the command line."""
    parser = argparse.ArgumentParser(prog="python -m cltutor.judge", description=train.__doc__)
    parser.add_argument("name", help="data set: digits, mnist, fashion, cifar10, cifar100")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    try:
        dataset = data.load(chosen.name)
    except (UserError, InstallError) as error:
        parser.exit(error.status, f"{error}\n")
    judge = train(dataset, chosen.steps, chosen.seed)
    path = save(judge, shipped.data_dir())
    floor, ceiling = fd_bounds(judge, dataset)
    print(f"{path}: test accuracy {judge.facts['test_accuracy']:.4f}")
    print(f"FD on judge features: test {floor:.2f}, noise {ceiling:.2f}")


if __name__ == "__main__":
    main()
