"""Judges: the shipped ones keep their word; FD has its floor and ceiling; training repeats."""

import os
from pathlib import Path

import pytest
import torch

from cltutor import data, judge, shipped
from cltutor.errors import UserError
from cltutor.nets.cnn import CNN


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shipped_judge(name: str):
    if name != "digits":
        root = os.environ.get("CLTUTOR_DATA")
        family = "FashionMNIST" if name.startswith("fashion") else "MNIST"
        if not root or not Path(root, family).exists():
            pytest.skip(f"needs {family}/raw in the folder that CLTUTOR_DATA names")
    dataset = data.load(name)
    return judge.load(name), dataset, dataset.x_test.float() / dataset.levels


@pytest.mark.parametrize(
    ("name", "at_least"),
    [
        ("digits", 0.97),
        ("mnist", 0.985),
        ("mnist14", 0.985),
        ("fashion14", 0.88),
    ],
)
def test_the_stored_accuracy_is_reproduced(name, at_least):
    arbiter, dataset, x = shipped_judge(name)
    assert arbiter.facts["data"] == dataset.checksum
    accuracy = judge.accuracy_on(arbiter, x, dataset.y_test)
    assert accuracy == pytest.approx(arbiter.facts["test_accuracy"], abs=0.002)
    assert accuracy >= at_least
    assert f"{arbiter.facts['test_accuracy']:.4f}" in (shipped.data_dir() / "README.md").read_text()
    assert (shipped.data_dir() / f"judges/{name}.safetensors").stat().st_size < 300_000


def test_fd_of_digits_lies_between_floor_and_ceiling():
    arbiter, dataset, x = shipped_judge("digits")
    floor, ceiling = judge.fd_bounds(arbiter, dataset)
    assert 0 < floor < 0.05 * ceiling
    train = dataset.x_train.float() / dataset.levels
    assert judge.fd(arbiter, x, train) == pytest.approx(floor)
    assert judge.fd(arbiter, x, x) == pytest.approx(0, abs=1e-6 * floor)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    mixed = [judge.fd(arbiter, (1 - a) * x + a * noise, train) for a in (0.1, 0.2, 0.3)]
    assert floor < mixed[0] < mixed[1] < mixed[2] < ceiling


def test_histogram_and_predictions():
    arbiter, dataset, x = shipped_judge("digits")
    sevens = x[dataset.y_test == 7]
    shares = judge.class_histogram(arbiter, sevens, 12)
    assert shares.shape == (12,) and abs(shares.sum() - 1) < 1e-9 and shares[7] > 0.9
    assert torch.equal(arbiter.predict(sevens), arbiter.logits(sevens).argmax(1))
    assert not arbiter.logits(sevens).requires_grad and arbiter.features(sevens).min() >= 0
    wrong = (dataset.y_test[:50] + 1) % 10
    assert judge.accuracy_on(arbiter, x[:50], wrong) < 0.1


def test_batches_do_not_show():
    arbiter, dataset, x = shipped_judge("digits")
    assert torch.allclose(arbiter.logits(x), arbiter.net(x), atol=1e-5)


@pytest.mark.parametrize(
    "x", [torch.zeros(2, 1, 28, 28), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)]
)
def test_images_of_another_kind_are_refused(x):
    with pytest.raises(
        UserError, match=r"digits takes float images in \[0, 1\] of shape \(N, 1, 8"
    ):
        judge.load("digits").predict(x)


def test_no_judge_names_the_command():
    with pytest.raises(UserError, match="python -m cltutor.judge fashion_or_so"):
        judge.load("fashion_or_so")


def test_an_altered_judge_is_detected(tmp_path, monkeypatch):
    arbiter = judge.load("digits")
    path = judge.save(arbiter, tmp_path)
    monkeypatch.setattr(shipped, "data_dir", lambda: tmp_path)
    again = judge.load("digits")
    assert again.facts == arbiter.facts
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), arbiter.parameters(), strict=True)
    )
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="git checkout data/judges/digits.safetensors"):
        judge.load("digits")


def test_training_repeats_and_follows_the_seed(tmp_path):
    digits = data.load("digits")
    files = []
    for folder, seed, noise in (("a", 3, 0), ("b", 3, 1), ("c", 4, 0)):
        torch.manual_seed(noise)
        files.append(judge.save(judge.train(digits, 8, seed), tmp_path / folder).read_bytes())
    assert files[0] == files[1] != files[2]


def test_a_short_training_learns():
    assert judge.train(data.load("digits"), 60).facts["test_accuracy"] > 0.7


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 16, 16), (1, 28, 28), (3, 32, 32)])
def test_the_network_takes_images_of_8_to_32_pixels(shape):
    net = CNN(shape, 10)
    x = torch.rand(5, *shape)
    assert net(x).shape == (5, 10) and net.features(x).shape == (5, 64)
    assert torch.equal(net.head(net.features(x)), net(x))
    assert torch.equal(net.train()(x), net.eval()(x))
