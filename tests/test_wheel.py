"""The built wheel and sdist: complete, clean, and at work in an empty environment."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import cltutor

ROOT = Path(__file__).parents[1]


def call(*command, **options):
    answer = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, **options
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder that holds the sdist and the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    # The lock holds the build backend: no isolated build environment, so no network.
    call(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    return folder


def files(folder):
    """Names of the files below a folder of the checkout that git would keep."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & set(path.parts)
    }


def test_wheel_holds_package_data_notebooks_and_licences(built):
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"cltutor-{cltutor.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"cltutor-{cltutor.__version__}.dist-info"
    assert {name for name in names if not name.startswith(info)} == {
        *(f"cltutor/{name}" for name in files(ROOT / "cltutor")),
        *(f"cltutor/_data/{name}" for name in files(ROOT / "data")),
        *(f"cltutor/_notebooks/{name}" for name in files(ROOT / "notebooks")),
    }
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/LICENSE-docs"} <= names


def test_sdist_holds_the_checkout_and_nothing_made_in_it(built):
    (sdist,) = built.glob("*.tar.gz")
    top = f"cltutor-{cltutor.__version__}"
    names = {name.removeprefix(f"{top}/") for name in tarfile.open(sdist).getnames()}
    assert {"start.py", "requirements.lock", "data/digits.npz", "tests/test_wheel.py"} <= names
    made = (".venv", ".setup", "runs", "dist", ".git/")
    assert [name for name in names if name.startswith(made) or "__pycache__" in name] == []


def test_wheel_works_in_an_empty_environment_outside_the_checkout(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "venv", symlinks=os.name != "nt")
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    call(
        *(sys.executable, "-m", "uv", "--offline", "pip", "install", "--no-deps"),
        *("--no-config", "--python", scripts / "python", wheel),
    )
    # The dependencies of this environment without its editable cltutor: Python does not read .pth
    # files in the folders of PYTHONPATH.
    environment = os.environ | {
        "PYTHONPATH": sysconfig.get_paths()["purelib"],
        "CLTUTOR_CACHE": str(tmp_path / "cache"),
    }
    place = call(
        scripts / "python",
        "-c",
        "import cltutor; print(cltutor.__file__)",
        cwd=tmp_path,
        env=environment,
    )
    assert Path(place.strip()).is_relative_to(tmp_path / "venv")
    call(
        *(scripts / "cltutor", "run", "dgr", "--set", "steps=5", "--out", tmp_path / "out"),
        cwd=tmp_path,
        env=environment,
    )
    (result,) = (tmp_path / "out").glob("*/result.json")
    assert json.loads(result.read_text())["config"]["dgr"]["steps"] == 5
