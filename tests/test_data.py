"""Data sets: the shipped digits, files from a data root, downloads from a local server."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from cltutor import data, imagefolder, shipped, streams
from cltutor.errors import UserError


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# --- The shipped digits ---------------------------------------------------------------------------


def test_digits_are_scikit_learns_with_a_fixed_stratified_split():
    from sklearn.datasets import load_digits

    reference, digits = load_digits(), data.load("digits")
    assert digits.x_train.shape == (1297, 1, 8, 8) and digits.x_test.shape == (500, 1, 8, 8)
    assert digits.x_train.dtype == torch.uint8 and digits.y_train.dtype == torch.int64
    assert digits.levels == 16 and digits.x_train.max() == 16
    assert digits.class_names == tuple("0123456789")

    def rows(x, y):
        return sorted((int(label), image.tobytes()) for image, label in zip(x, y, strict=True))

    x = torch.cat([digits.x_train, digits.x_test])[:, 0].numpy()
    y = torch.cat([digits.y_train, digits.y_test])
    assert rows(x, y) == rows(reference.images.astype(np.uint8), reference.target)
    share = np.bincount(reference.target) * 500 / 1797
    assert np.abs(digits.y_test.bincount().numpy() - share).max() < 1


def test_digits_are_exported_byte_for_byte(tmp_path):
    exported = shipped.export_digits(tmp_path).read_bytes()
    assert exported == (shipped.data_dir() / "digits.npz").read_bytes()
    digest = hashlib.sha256(exported).hexdigest()
    assert digest in (shipped.data_dir() / "README.md").read_text()
    assert (tmp_path / "SHA256SUMS").read_text() == f"{digest}  digits.npz\n"


def test_checksum_depends_on_the_arrays_alone():
    digits = data.load("digits")
    arrays = [digits.x_train, digits.y_train, digits.x_test, digits.y_test]
    digest = hashlib.sha256(b"".join(array.numpy().tobytes() for array in arrays))
    assert digits.checksum == digest.hexdigest()
    assert digits.checksum == "f2c288b334ba1677ef298d599e443763e5d92ffb112b7631a0d9585169b5109a"
    assert data.load("digits") is digits


def test_an_altered_shipped_file_is_named_with_its_mend(tmp_path, monkeypatch):
    path = shipped.export_digits(tmp_path)
    monkeypatch.setattr(data, "data_dir", lambda: tmp_path)
    monkeypatch.setattr(shipped, "data_dir", lambda: tmp_path)
    assert data.verify() == [(path, True)]
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    assert data.verify() == [(path, False)]
    with pytest.raises(UserError) as error:
        data.load("digits")
    message = one_line(error)
    assert str(path) in message and "git checkout data/digits.npz" in message
    path.unlink()
    assert data.verify() == [(path, False)]


def test_all_shipped_files_are_intact():
    files = data.verify()
    assert {path.name for path, _ in files} >= {"digits.npz", "digits.safetensors"}
    assert all(intact for _, intact in files)


def test_the_folder_in_the_package_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "cltutor" / "shipped.py"))
    assert shipped.data_dir() == tmp_path / "data"
    (tmp_path / "cltutor" / "_data").mkdir(parents=True)
    assert shipped.data_dir() == tmp_path / "cltutor" / "_data"


def test_digits_need_no_torchvision():
    code = "import sys; from cltutor import data; data.load('digits'); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert b"torchvision" not in modules.split()


def test_unknown_name_lists_the_choices():
    with pytest.raises(UserError, match="digits, mnist, fashion, cifar10, cifar100"):
        data.load("mnst")


def test_roots_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path))
    monkeypatch.delenv("CLTUTOR_DATA", raising=False)
    assert data.data_root() == tmp_path / "data"
    monkeypatch.setenv("CLTUTOR_DATA", str(tmp_path / "mine"))
    assert data.data_root() == tmp_path / "mine"
    monkeypatch.delenv("CLTUTOR_CACHE")
    assert data.cache_dir().name == "cltutor"


# --- The real files, where CLTUTOR_DATA has them --------------------------------------------------

REAL = {  # file, shape, mean pixel, first train labels
    "mnist": ("MNIST/raw", (1, 28, 28), 0.13066, [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]),
    "fashion": ("FashionMNIST/raw", (1, 28, 28), 0.28604, [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]),
    "cifar100": ("cifar100/cifar100.npz", (3, 32, 32), 0.47818, [19, 29, 0, 11, 1]),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(name):
    file, shape, mean, labels = REAL[name]
    root = os.environ.get("CLTUTOR_DATA")
    if not root or not Path(root, file).exists():
        pytest.skip(f"needs {file} in the folder that CLTUTOR_DATA names")
    real = data.load(name)
    n = 50000 if name == "cifar100" else 60000
    assert real.x_train.shape == (n, *shape) and real.x_test.shape == (10000, *shape)
    assert real.y_train[: len(labels)].tolist() == labels
    assert real.x_train.float().mean().item() / real.levels == pytest.approx(mean, abs=1e-5)
    assert len(real.class_names) == int(real.y_train.max()) + 1


# --- Small stand-ins for the files, served from this machine --------------------------------------


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def stand_in(folder: Path) -> dict[str, bytes]:
    """Four small IDX files under MNIST's names, written to `folder` packed."""
    rng = np.random.RandomState(0)
    files = {}
    for name in data.IDX_MD5["MNIST"]:
        n = 7 if name.startswith("train") else 5
        shape = (n, 28, 28) if "images" in name else (n,)
        files[name] = idx(rng.randint(0, 10, shape).astype(np.uint8))
        (folder / f"{name}.gz").write_bytes(gzip.compress(files[name], mtime=0))
    return files


def expect(folder: Path, address: str) -> None:
    """Make the kit and torchvision expect the stand-ins. Also run in other processes."""
    from torchvision.datasets import MNIST

    packed = {name: (folder / f"{name}.gz").read_bytes() for name in data.IDX_MD5["MNIST"]}
    data.IDX_MD5["MNIST"] = {name: md5(gzip.decompress(part)) for name, part in packed.items()}
    MNIST.mirrors = [address]
    MNIST.resources = [(f"{name}.gz", md5(part)) for name, part in packed.items()]


@pytest.fixture
def served(tmp_path, monkeypatch):
    """(folder served, its stand-ins, a hook that is called with the path of each request)."""
    from torchvision.datasets import MNIST

    folder, hooks = tmp_path / "served", []
    folder.mkdir()
    files = stand_in(folder)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            for hook in hooks:
                hook(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(data, "IDX_MD5", dict(data.IDX_MD5))
    monkeypatch.setattr(MNIST, "mirrors", MNIST.mirrors)
    monkeypatch.setattr(MNIST, "resources", MNIST.resources)
    expect(folder, f"http://127.0.0.1:{server.server_port}/")
    yield folder, files, hooks
    server.shutdown()
    server.server_close()


def content_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_missing_files_are_downloaded_once(served, tmp_path, capsys):
    _, files, hooks = served
    root = tmp_path / "root"
    first = data.load("mnist", root)
    assert first.x_train.shape == (7, 1, 28, 28) and first.y_test.shape == (5,)
    assert first.x_test.numpy().tobytes() == files["t10k-images-idx3-ubyte"][16:]
    assert content_of(root) == {f"MNIST/raw/{name}": part for name, part in files.items()}
    assert [path.name for path in root.iterdir()] == ["MNIST"]
    assert capsys.readouterr().out == ""
    assert socket.getdefaulttimeout() is None
    hooks.append(lambda path: pytest.fail(f"asked again for {path}"))
    data._load.cache_clear()
    assert data.load("mnist", root).checksum == first.checksum


def test_a_spoilt_download_is_refused(served, tmp_path):
    folder, _, _ = served
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"not what was promised")
    with pytest.raises(UserError) as error:
        data.load("mnist", tmp_path / "root")
    assert "could not be downloaded from http://127.0.0.1" in one_line(error)
    assert list((tmp_path / "root").iterdir()) == []


def test_two_processes_download_at_once(served, tmp_path):
    folder, files, hooks = served
    # Both are held at the last file until the other has come as far, so that they do overlap.
    together = threading.Barrier(2)
    hooks.append(lambda path: "t10k-labels" in path and together.wait(timeout=120))
    code = """
import sys
from pathlib import Path
from cltutor import data
from tests.test_data import expect
folder, root, address = sys.argv[1:]
expect(Path(folder), address)
print(data.load("mnist", root).checksum)
"""
    from torchvision.datasets import MNIST

    root = tmp_path / "root"
    command = [sys.executable, "-c", code, str(folder), str(root), MNIST.mirrors[0]]
    repository = Path(__file__).parents[1]
    both = [
        subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    hooks.clear()
    assert {out.decode().strip() for out, _ in said} == {data.load("mnist", root).checksum}
    assert content_of(root) == {f"MNIST/raw/{name}": part for name, part in files.items()}
    assert [path.name for path in root.iterdir()] == ["MNIST"]


@pytest.mark.parametrize("name", ["mnist", "fashion", "cifar10", "cifar100"])
def test_without_network_one_line_says_what_to_do(name, tmp_path, monkeypatch):
    def nowhere(*_, **__):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(UserError) as error:
        data.load(name, tmp_path)
    message = one_line(error)
    for part in ("http", "no network in this test", "quick needs no download", str(tmp_path)):
        assert part in message
    assert "CLTUTOR_DATA" in message
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="could not be downloaded"):
        data.load("mnist", tmp_path / "file")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_an_altered_file_is_named(served, tmp_path, packed, damage):
    folder, files, hooks = served
    hooks.append(lambda path: pytest.fail(f"asked for {path}"))
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        path = raw / f"{name}.gz" if packed else raw / name
        path.write_bytes((folder / f"{name}.gz").read_bytes() if packed else content)
    assert len(data.load("mnist", tmp_path / "root").x_train) == 7
    content = bytearray(path.read_bytes()[: -3 if damage == "cut" else None])
    if damage == "flip":
        content[-9] ^= 255
    path.write_bytes(content)
    data._load.cache_clear()
    with pytest.raises(UserError) as error:
        data.load("mnist", tmp_path / "root")
    assert f"{path} is altered or incomplete: delete it and run again" in one_line(error)


def test_cifar10_by_torchvision(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    pixels = np.random.RandomState(0).randint(0, 256, (4, 3072)).astype(np.uint8)

    def put(name: str, content: dict) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, md5((folder / name).read_bytes())]

    train = [put("one", {"data": pixels, "labels": [1, 0, 1, 1]})]
    test = [put("two", {"data": pixels[:2], "labels": [0, 1]})]
    names, digest = put("names", {"label_names": ["cat", "dog"]})
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", test)
    monkeypatch.setattr(CIFAR10, "meta", {"filename": names, "key": "label_names", "md5": digest})
    loaded = data.load("cifar10", tmp_path)
    assert np.array_equal(loaded.x_train.flatten(1).numpy(), pixels)
    assert loaded.x_train.shape == (4, 3, 32, 32) and loaded.y_train.tolist() == [1, 0, 1, 1]
    assert loaded.class_names == ("cat", "dog") and loaded.levels == 255
    put("two", {"data": pixels[2:], "labels": [0, 1]})
    data._load.cache_clear()
    with pytest.raises(UserError, match="two is altered"):
        data.load("cifar10", tmp_path)


def test_cifar100_from_webp_strips(tmp_path, monkeypatch):
    from PIL import Image

    rng = np.random.RandomState(0)
    arrays, images = {"fine_names": np.array(["apple", "bear"])}, {}
    for split, y in (("train", np.array([1, 0, 1, 0, 0, 1])), ("test", np.array([1, 0]))):
        x = images[split] = rng.randint(0, 256, (len(y), 32, 32, 3)).astype(np.uint8)
        strips = []
        for part in np.split(x[np.argsort(y, kind="stable")], 2):
            strip = io.BytesIO()
            Image.fromarray(part.reshape(-1, 32, 3)).save(strip, "WEBP", lossless=True)
            strips.append(strip.getvalue())
        arrays[f"{split}_webp"] = np.frombuffer(b"".join(strips), np.uint8)
        arrays[f"{split}_len"] = np.array([len(strip) for strip in strips])
        arrays[f"{split}_labels"] = y.astype(np.uint8)
        monkeypatch.setitem(data.CIFAR100_SHA256, split, hashlib.sha256(x).hexdigest())
    path = tmp_path / "cifar100" / "cifar100.npz"
    path.parent.mkdir()
    np.savez(path, **arrays)
    loaded = data.load("cifar100", tmp_path)
    assert np.array_equal(loaded.x_train.numpy().transpose(0, 2, 3, 1), images["train"])
    assert loaded.y_train.tolist() == [1, 0, 1, 0, 0, 1] and loaded.class_names == ("apple", "bear")
    for content in (b"not a zip file", path.read_bytes()[:-100]):
        path.write_bytes(content)
        data._load.cache_clear()
        with pytest.raises(UserError, match="cifar100.npz is altered"):
            data.load("cifar100", tmp_path)
    arrays["test_labels"] = arrays["test_labels"][::-1]
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="cifar100.npz is altered"):
        data.load("cifar100", tmp_path)


# --- a folder of images per class ----------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path):
    """Two classes of three images, each of one grey; the files are named against their order."""
    from PIL import Image

    for c, (name, first) in enumerate((("b", 100), ("a", 10))):
        folder = tmp_path / "mini" / name
        folder.mkdir(parents=True)
        for n in range(3):
            image = Image.new("RGB", (6 + 4 * c, 6), (first + n, 0, 255))
            image.save(folder / f"{9 - n}.png")
        (folder / "notes.txt").write_text("no image")
    return tmp_path


def test_images_of_a_folder_in_the_order_of_their_names(pictures):
    (x, y), (x_test, y_test), levels, names = imagefolder.read("mini", pictures, 4, 2, 1)
    assert names == ("a", "b") and levels == 255
    assert x.shape == (4, 3, 4, 4) and x.dtype == np.uint8 and x_test.shape == (2, 3, 4, 4)
    assert y.tolist() == [0, 0, 1, 1] and y_test.tolist() == [0, 1]
    assert x[:, 0].mean((1, 2)).tolist() == [12, 11, 102, 101]  # 7.png, 8.png, then 9.png
    assert x_test[:, 0].mean((1, 2)).tolist() == [10, 100] and (x[:, 2] == 255).all()


def test_an_image_is_cut_square_from_its_middle(tmp_path):
    from PIL import Image

    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    for name in ("c/1.png", "c/2.jpeg"):
        (tmp_path / "mini" / "c").mkdir(parents=True, exist_ok=True)
        Image.fromarray(wide).save(tmp_path / "mini" / name, quality=100)
    (x, _), (x_test, _), *_ = imagefolder.read("mini", tmp_path, 4, 1, 1)
    assert (x == 200).all() and abs(x_test.mean() - 200) < 20


def test_faults_of_a_folder_are_one_line(pictures):
    with pytest.raises(UserError, match="other is not in .* it cannot be downloaded"):
        imagefolder.read("other", pictures, 4, 2, 1)
    with pytest.raises(UserError, match="a has 3 images, and 4 are needed"):
        imagefolder.read("mini", pictures, 4, 3, 1)
    (pictures / "mini" / "a" / "8.png").write_text("torn")
    with pytest.raises(UserError, match="8.png is no image that can be read"):
        imagefolder.read("mini", pictures, 4, 2, 1)


def test_mini_imagenet_is_one_of_them(pictures, monkeypatch):
    with pytest.raises(UserError, match="miniimagenet is not in .* CLTUTOR_DATA"):
        data.load("miniimagenet", pictures)
    few = partial(imagefolder.read, "mini", size=4, train=2, test=1)
    monkeypatch.setitem(data._READERS, "miniimagenet", few)
    stream = streams.split(data.load("miniimagenet", pictures), 2, scenario="task")
    assert [len(exp.y) for exp in stream] == [2, 2] and stream.shape == (3, 4, 4)
