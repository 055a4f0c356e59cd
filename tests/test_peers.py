"""The listings of notebook 11, LwF in two other libraries: on a batch, the loss of the kit's LwF.

Neither library is installed; stand-ins have the part of their interface that a listing uses.
"""

import re
import sys
from argparse import ArgumentParser
from types import ModuleType, SimpleNamespace

import nbformat
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cltutor import notebook
from cltutor.methods import lwf


class SupervisedPlugin:
    """Of avalanche.training.plugins: hooks that a strategy calls with itself."""


class ContinualModel(nn.Module):
    """Of Mammoth's models/utils/continual_model.py."""

    def __init__(self, backbone, loss, args, transform, dataset=None):
        super().__init__()
        self.net, self.loss, self.args = backbone, loss, args
        self.opt = torch.optim.SGD(backbone.parameters(), lr=args.lr)


STAND_INS = {
    "avalanche.training.plugins": SupervisedPlugin,
    "models.utils.continual_model": ContinualModel,
}


def listing(word: str) -> str:
    """The one listing of the notebook in which the word is."""
    cells = nbformat.read(notebook.find("11"), 4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    (found,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.S) if word in code]
    return found


@pytest.fixture
def batch():
    """Old net, net, images, labels, and the loss of the kit's file."""
    rng = torch.Generator().manual_seed(0)
    nets = nn.Linear(6, 4), nn.Linear(6, 4)
    with torch.no_grad():
        for net in nets:
            for weight in net.parameters():
                weight.copy_(torch.randn(weight.shape, generator=rng))
    x, y = torch.randn(5, 6, generator=rng), torch.tensor([2, 3, 2, 3, 3])
    heads = torch.ones(1, 4, dtype=torch.bool)
    keep = lwf.distill(nets[1](x), nets[0](x), heads, 3.0, "class")
    return *nets, x, y, (F.cross_entropy(nets[1](x), y) + 0.5 * keep).item()


def classes_of(word, monkeypatch) -> dict:
    """What the listing defines."""
    for path, stand_in in STAND_INS.items():
        for end in range(1, path.count(".") + 2):
            name = ".".join(path.split(".")[:end])
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        setattr(sys.modules[path], stand_in.__name__, stand_in)
    space = {}
    exec(listing(word), space)
    return space


def test_avalanche(batch, monkeypatch):
    old, net, x, y, loss = batch
    plugin = classes_of("SupervisedPlugin", monkeypatch)["LwF"](lam=0.5, tau=3.0)
    strategy = SimpleNamespace(model=old, mb_x=x, mb_output=net(x))
    plain = strategy.loss = F.cross_entropy(net(x), y)
    plugin.before_backward(strategy)
    assert strategy.loss is plain, "before the first experience is over there is no teacher"
    plugin.after_training_exp(strategy)
    strategy.model = net
    plugin.before_backward(strategy)
    assert strategy.loss.item() == pytest.approx(loss, rel=1e-5)
    assert plugin.teacher is not old, "a copy, which does not learn on"


def test_mammoth(batch, monkeypatch):
    old, net, x, y, loss = batch
    method = classes_of("ContinualModel", monkeypatch)["PlainLwF"]
    args = method.get_parser(ArgumentParser()).parse_args(["--lam", "0.5", "--tau", "3"])
    args.lr = 0.1
    model = method(old, F.cross_entropy, args, None)
    assert model.observe(x, y, x) > F.cross_entropy(old(x), y).item(), "a step was taken"
    before = [weight.clone() for weight in old.parameters()]
    model.end_task(None)
    for weight, saved in zip(model.teacher.parameters(), before, strict=True):
        assert torch.equal(weight, saved)
    with torch.no_grad():
        for weight, other in zip(model.net.parameters(), net.parameters(), strict=True):
            weight.copy_(other)
    expected = (
        F.cross_entropy(net(x), y).item()
        + 0.5
        * lwf.distill(
            net(x), model.teacher(x), torch.ones(1, 4, dtype=torch.bool), 3.0, "class"
        ).item()
    )
    assert model.observe(x, y, x) == pytest.approx(expected, rel=1e-5)
