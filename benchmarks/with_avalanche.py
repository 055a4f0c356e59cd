"""DGR, EWC and GDumb as Avalanche runs them, on the tensors, networks and losses of the kit.

Avalanche is no dependency of the kit: all.py imports this file where avalanche-lib is installed.
Loggers, metrics and workers are off. Batches come from the plain loader that strategies have for
`benchmark_from_datasets`; with `ready` from the balancing one, which is slower, that they have for
`tensors_benchmark` and for all of Avalanche's ready-made benchmarks.
"""

import warnings

import torch
from avalanche.benchmarks import benchmark_from_datasets, tensors_benchmark
from avalanche.benchmarks.utils import (
    ConstantSequence,
    DataAttribute,
    TaskAwareSupervisedClassificationDataset,
    TaskLabels,
)
from avalanche.training.plugins import EvaluationPlugin, EWCPlugin, GenerativeReplayPlugin
from avalanche.training.supervised import GDumb, GenerativeReplay, Naive, VAETraining
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.common import now
from cltutor.stream import Stream
from cltutor.vae import VAE, negative_elbo


def experiences(stream: Stream, ready: bool = False) -> list:
    """The stream's training tensors as Avalanche's experiences."""
    if ready:
        pairs, zeros = [(exp.x, exp.y) for exp in stream], [0] * len(stream)
        made = tensors_benchmark(train_tensors=pairs, test_tensors=pairs, task_labels=zeros)
        return list(made.train_stream)
    datasets = []
    for exp in stream:
        # The plugin of generative replay takes the last entry of a batch for labels of tasks.
        tasks = TaskLabels(ConstantSequence(0, len(exp.y)))
        told = [DataAttribute(exp.y.tolist(), "targets"), tasks]
        tensors = [TensorDataset(exp.x, exp.y)]
        datasets.append(TaskAwareSupervisedClassificationDataset(tensors, data_attributes=told))
    return list(benchmark_from_datasets(train=datasets).train_stream)


class Generator(nn.Module):
    """Our VAE with the methods that Avalanche calls."""

    def __init__(self, vae: VAE):
        super().__init__()
        self.vae = vae

    def forward(self, x: torch.Tensor):
        """As the VAE's, with noise drawn here."""
        return self.vae(x, torch.randn(len(x), self.vae.latent))

    def generate(self, n: int) -> torch.Tensor:
        """n dreams (n, C, H, W)."""
        return self.vae.sample(n, None)


class TimedEWC(EWCPlugin):
    """EWC, the seconds of its importances added up in `seconds`."""

    seconds = 0.0

    def after_training_exp(self, strategy, **kwargs) -> None:
        """Take the importances."""
        start = now()
        super().after_training_exp(strategy, **kwargs)
        self.seconds += now() - start


def strategy(method: str, learner: dict, cfg, passes: int):
    """Avalanche's counterpart of a method with `cfg`, on our networks: `passes` over its data."""

    def how(net: nn.Module) -> dict:
        adam = torch.optim.Adam(net.parameters(), lr=cfg.lr)
        sizes = dict(train_mb_size=cfg.batch, train_epochs=passes)
        return dict(model=net, optimizer=adam, evaluator=EvaluationPlugin(), **sizes)

    solver = how(learner["solver"]) | dict(criterion=nn.CrossEntropyLoss())
    if method == "dgr":
        vae = how(Generator(learner["generator"]))
        vae["criterion"] = lambda x, output: negative_elbo(*output, x)
        dreaming = VAETraining(**vae, plugins=[GenerativeReplayPlugin()])
        return GenerativeReplay(**solver, generator_strategy=dreaming)
    if method == "gdumb":
        return GDumb(**solver, mem_size=cfg.memory)
    # lam / 2: Avalanche's penalty has no 1/2. One spring per weight, importances summed, as ours.
    return Naive(**solver, plugins=[TimedEWC(cfg.lam / 2, "online", decay_factor=1.0)])


def train(
    method: str, learner: dict, stream: Stream, cfg, passes: int, ready: bool = False
) -> tuple:
    """Train on the whole stream, in `passes` over every experience.

    Returns:
        seconds of the steps; seconds of EWC's importances, else 0; {role: optimiser steps taken};
        the solver.
    """
    with warnings.catch_warnings(record=True):  # Avalanche's, about calls within Avalanche
        data, trained = experiences(stream, ready), strategy(method, learner, cfg, passes)
        start = now()
        for exp in data:
            trained.train(exp)
        spent = now() - start
    steps = {"solver": trained.clock.train_iterations}
    if method == "dgr":
        steps["generator"] = trained.generator_strategy.clock.train_iterations
    rest = sum(one.seconds for one in trained.plugins if isinstance(one, TimedEWC))
    return spent - rest, rest, steps, trained.model
