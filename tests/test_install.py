"""cltutor.install: each check is seen failing, and says how to mend what it found."""

import platform
import subprocess
import sys
from collections import namedtuple
from importlib import metadata

import pytest

from cltutor import data, install, shipped
from cltutor.errors import InstallError

REQUIRES = {
    "cltutor": ["torch>=2.6", "rich>=13.7", 'pytest>=8.3; extra == "dev"'],
    "torchvision": ["numpy", "torch (>=2.14.0)", 'gdown; extra == "gdown"'],
}
VERSIONS = {"torch": "2.15.0+cpu", "torchvision": "0.29.2", "rich": "15.0.0"}


@pytest.fixture
def packages(monkeypatch):
    """The environment's packages as a dict name -> version, to be changed by the test."""
    versions = dict(VERSIONS)

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", REQUIRES.__getitem__)
    return versions


def one(name):
    """The check of that name; it fails if there is none or more than one."""
    (check,) = (check for check in install.checks() if check.name == name)
    return check


def test_a_sound_environment_passes_every_check(packages, monkeypatch, tmp_path):
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "not" / "there" / "yet"))
    monkeypatch.setenv("CLTUTOR_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = install.checks()
    assert [check for check in found if not check.ok] == []
    assert [check.name for check in found] == [
        "Python",
        "torch",
        "rich",
        "torch matches torchvision",
        "torchvision loads",
        "memory",
        "cache folder",
        "output folder",
        "data folder",
        "embedded data",
    ]
    assert list(tmp_path.iterdir()) == [], "a check leaves nothing behind"


def test_old_python(monkeypatch):
    monkeypatch.setattr(platform, "python_version", lambda: "3.10.13")
    check = one("Python")
    assert not check.ok and check.found == "3.10.13" and "3.11 or newer" in check.mend


@pytest.mark.parametrize("version, found", [("13.6.9", "13.6.9"), (None, "missing")])
def test_dependency_out_of_range_or_missing(packages, version, found):
    packages.pop("rich")
    if version:
        packages["rich"] = version
    check = one("rich")
    assert not check.ok and check.found == found
    assert check.mend == 'Run `pip install "rich>=13.7"`.'


def test_prerelease_inside_the_range_is_accepted(packages):
    packages["rich"] = "15.0.0rc1"
    assert one("rich").ok


def test_package_itself_not_installed(monkeypatch):
    def requires(name):
        if name == "cltutor":
            raise metadata.PackageNotFoundError(name)
        return REQUIRES[name]

    monkeypatch.setattr(metadata, "requires", requires)
    check = one("cltutor")
    assert not check.ok and "pip install -e ." in check.mend


@pytest.mark.parametrize(
    "changes, found",
    [
        ({"torch": "2.13.0"}, "torch 2.13.0, torchvision 0.29.2, which needs torch>=2.14.0"),
        ({"torch": None}, "torch missing, torchvision 0.29.2, which needs torch>=2.14.0"),
        ({"torchvision": None}, "torch 2.15.0+cpu, torchvision missing"),
    ],
)
def test_torch_that_does_not_match(packages, changes, found):
    for name, version in changes.items():
        packages.pop(name)
        if version:
            packages[name] = version
    check = one("torch matches torchvision")
    assert not check.ok and check.found == found
    with pytest.raises(InstallError) as error:
        install.require_matching_torch()
    assert found in str(error.value) and check.mend in str(error.value)
    assert "\n" not in str(error.value)


def test_exact_pin_of_torchvision_ignores_the_build_label(packages, monkeypatch):
    pinned = REQUIRES | {"torchvision": ["torch (==2.15.0)"]}
    monkeypatch.setattr(metadata, "requires", pinned.__getitem__)
    install.require_matching_torch()
    packages["torch"] = "2.15.1"
    with pytest.raises(InstallError, match="needs torch==2.15.0"):
        install.require_matching_torch()


def test_matching_is_checked_without_importing_torch():
    code = (
        "import sys; from cltutor import install; install.require_matching_torch(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    "error", [RuntimeError("operator torchvision::nms does not exist\nat x"), OSError("libcudart")]
)
def test_operators_that_do_not_load(monkeypatch, error):
    import torchvision.ops

    def broken(*_):
        raise error

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    check = one("torchvision loads")
    assert not check.ok and check.found == str(error).partition("\n")[0]
    assert "--force-reinstall" in check.mend


def test_torchvision_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.ops", None)
    assert not one("torchvision loads").ok


def test_too_little_memory(monkeypatch):
    import psutil

    memory = namedtuple("memory", "total available")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(1_900_000_000, 400_000_000))
    check = one("memory")
    assert not check.ok and check.found == "1.9 GB, 0.4 GB of it free" and "2 GB" in check.mend


def test_too_little_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path))
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _: usage(900_000_000))
    for name in ("cache folder", "output folder"):
        check = one(name)
        assert not check.ok and "0.9 GB free" in check.found
        assert check.mend.startswith("Free at least 1 GB")


def test_folders_that_cannot_be_written(monkeypatch, tmp_path):
    # A file in the place of a folder: no permission bit stops root.
    (tmp_path / "cache").touch()
    (tmp_path / "runs").touch()
    (tmp_path / "data").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "cache" / "below"))
    monkeypatch.setenv("CLTUTOR_DATA", str(tmp_path / "data"))
    for name, mend in [
        ("cache folder", "Set CLTUTOR_CACHE"),
        ("output folder", "Change to a folder"),
        ("data folder", "Set CLTUTOR_DATA"),
    ]:
        check = one(name)
        assert not check.ok and check.mend.startswith(mend)


def test_a_data_root_that_can_only_be_read_serves(monkeypatch, tmp_path):
    monkeypatch.setenv("CLTUTOR_DATA", str(tmp_path))
    monkeypatch.setattr(install.os, "access", lambda *_: False)
    check = one("data folder")
    assert check.ok and check.found.endswith("readable only")
    monkeypatch.setenv("CLTUTOR_DATA", str(tmp_path / "not there yet"))
    assert "readable only" not in one("data folder").found


def test_the_cache_folder_is_the_one_in_use(monkeypatch, tmp_path):
    assert one("cache folder").found.startswith(f"{data.cache_dir()},")
    monkeypatch.setenv("CLTUTOR_CACHE", str(tmp_path / "mine"))
    assert one("cache folder").found.startswith(f"{data.cache_dir()},")


def test_embedded_data_altered_or_gone(monkeypatch, tmp_path):
    shipped.write_embedded(tmp_path, "digits.npz", b"as shipped")
    monkeypatch.setattr(shipped, "data_dir", lambda: tmp_path)
    assert one("embedded data").ok
    (tmp_path / "digits.npz").write_bytes(b"altered")
    check = one("embedded data")
    assert not check.ok and check.found == "missing or altered: digits.npz"
    assert "git checkout data" in check.mend
    (tmp_path / "SHA256SUMS").unlink()
    check = one("embedded data")
    assert not check.ok and "no checksums" in check.found
