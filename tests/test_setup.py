"""Set-up: start.py, and the agreement of pyproject.toml, environment.yml and requirements.lock."""

import ast
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cltutor

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = PROJECT["optional-dependencies"]
DEV = [  # "dev" takes "cluster" and "site" by naming the kit itself
    Requirement(line)
    for name in ("dev", "cluster", "site")
    for line in EXTRAS[name]
    if not line.startswith("cltutor[")
]
LOCK = [Requirement(line.strip()) for line in (ROOT / "requirements.lock").read_text().splitlines()]
PLATFORMS = {
    "linux": ("posix", "linux", "Linux", "x86_64"),
    "macos": ("posix", "darwin", "Darwin", "arm64"),
    "windows": ("nt", "win32", "Windows", "AMD64"),
}
RESOLVED = [("linux", "3.11.9"), ("windows", "3.12.9"), ("macos", "3.13.5")]
IMPORTS = {"IPython": "ipython", "PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}

posix_only = pytest.mark.skipif(os.name == "nt", reason="make and bash are not used on Windows")


# --- pyproject.toml, environment.yml, requirements.lock ------------------------------------------


def environment(system, python):
    """Marker variables of CPython `python` on one of PLATFORMS."""
    keys = ("os_name", "sys_platform", "platform_system", "platform_machine")
    return dict(zip(keys, PLATFORMS[system], strict=True)) | {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "implementation_name": "cpython",
        "implementation_version": python,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_version": "",
        "extra": "",
    }


def pins(variables):
    """name -> version of what the lock holds for these marker variables, one version each."""
    held = [line for line in LOCK if line.marker is None or line.marker.evaluate(variables)]
    names = [canonicalize_name(line.name) for line in held]
    assert len(names) == len(set(names)), "the lock holds two versions of one package"
    versions = (str(line.specifier).removeprefix("==") for line in held)
    return dict(zip(names, versions, strict=True))


def test_every_imported_package_is_a_dependency():
    """Of the kit, or of the extra of a command that says so when it is not there."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "cltutor").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    foreign = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names - {"cltutor"}
    extra = {Requirement(line).name for line in EXTRAS["cluster"]}
    assert extra == {"distributed"}
    assert {IMPORTS.get(name, name) for name in foreign} <= {r.name for r in RUNTIME} | extra


def test_environment_yml_names_the_dependencies_of_pyproject_in_the_same_ranges():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert conda["channels"] == ["conda-forge", "nodefaults"]
    python, pip, *listed, last = conda["dependencies"]
    assert pip == "pip" and last == {"pip": ["-e ."]}
    assert python.startswith("python=")
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python[7:])
    assert listed == [f"{CONDA.get(r.name, r.name)}{r.specifier}" for r in RUNTIME]


@pytest.mark.parametrize("system", PLATFORMS)
@pytest.mark.parametrize("python", ["3.11.0", "3.12.9", "3.13.5", "3.14.0"])
def test_lock_pins_every_direct_dependency_inside_its_range(system, python):
    held = pins(environment(system, python))
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for requirement in [*RUNTIME, *DEV, *map(Requirement, build)]:
        assert requirement.specifier.contains(held[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("system", PLATFORMS)
def test_lock_pins_whatever_the_installed_packages_require(system):
    variables = environment(system, ".".join(map(str, sys.version_info[:3])))
    held = pins(variables)
    for requirement in RUNTIME + DEV:
        if metadata.version(requirement.name).partition("+")[0] != held[requirement.name]:
            pytest.skip(f"this environment is not the locked one: {requirement.name} differs")
    todo = [(requirement, "the project") for requirement in RUNTIME + DEV]
    seen = set()
    while todo:
        requirement, parent = todo.pop()
        name = canonicalize_name(requirement.name)
        assert name in held, f"{name}, which {parent} requires on {system}, is not in the lock"
        assert requirement.specifier.contains(held[name]), (name, parent)
        try:
            children = [Requirement(line) for line in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue  # a package of another system: its own requirements are not known here
        for extra in {"", *requirement.extras} - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            todo += [
                (child, name)
                for child in children
                if child.marker is None or child.marker.evaluate(variables | {"extra": extra})
            ]
    assert len({name for name, _ in seen}) > 100


@pytest.fixture(scope="module")
def resolving():
    """(system, python) -> uv resolving the lock for it from wheels only, all side by side."""
    command = "uv pip compile requirements.lock --only-binary :all: --no-header --no-annotate"
    processes = {
        (system, python): subprocess.Popen(
            [sys.executable, "-m", *command.split(), "--quiet", "--no-config"]
            + ["--python-platform", system, "--python-version", python],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # PyTorch's wheels ask for macOS 14, uv assumes an older one.
            env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0", "UV_HTTP_TIMEOUT": "20"},
        )
        for system, python in RESOLVED
    }
    yield processes
    for process in processes.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("system, python", RESOLVED)
def test_lock_resolves_from_wheels_to_itself(resolving, system, python):
    process = resolving[system, python]
    output, error = process.communicate()
    network = "error sending request|dns error|failed to fetch|connect|timed out|offline"
    if process.returncode and re.search(network, error, re.IGNORECASE):
        pytest.skip(f"the package index cannot be reached: {' '.join(error.split())}")
    assert process.returncode == 0, error
    assert dict(line.split("==") for line in output.split()) == pins(environment(system, python))


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == cltutor.__version__
    assert PROJECT["license"] == " AND ".join(citation["license"])


@pytest.mark.parametrize(
    "name, hosts",
    [
        ("LICENSE", set()),
        ("LICENSE-docs", {"creativecommons.org"}),
        *[
            (name, set())
            for name in (
                ".ci/run .github/workflows/ci.yml .github/workflows/site.yml Makefile "
                "cltutor/install.py environment.yml pyproject.toml requirements.lock start.py"
            ).split()
        ],
    ],
)
def test_packaging_names_no_package_index(name, hosts):
    text = (ROOT / name).read_text()
    assert set(re.findall(r"\b[\w-]+\.(?:com|dev|io|net|org)\b", text)) == hosts
    assert len(re.findall("://", text)) == len(hosts)


# --- start.py ------------------------------------------------------------------------------------


class Machine:
    """Stands in for `subprocess` in start.py: makes the files that venv and pip would make."""

    PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL

    def __init__(self, start):
        self.start = start
        self.venv_status = self.pip_status = self.child_status = 0
        self.python_runs = self.pip_runs = True
        self.python = "3.11.7"
        self.log = []

    def call(self, command, **options):
        if command[1:3] == ["-m", "venv"]:
            self.log.append("venv")
            self.start.BIN.mkdir(parents=True)
            self.start.PYTHON.touch()
            self.python_runs = self.pip_runs = True
            return self.venv_status
        if command[-1] == "--version":
            return 0 if self.pip_runs else 1
        assert command[:4] == [str(self.start.PYTHON), "-m", "pip", "install"]
        assert options["env"]["PIP_CONSTRAINT"] == "requirements.lock"
        assert options["env"]["PIP_BUILD_CONSTRAINT"] == "requirements.lock"
        assert options["cwd"] == str(self.start.ROOT)
        assert not self.start.STAMP.exists(), "an install under way looks finished"
        self.log.append(" ".join(command[6:]))
        self.start.CLTUTOR.touch()
        return self.pip_status

    def run(self, command, **options):
        if not self.start.PYTHON.exists():
            raise FileNotFoundError(command[0])
        return SimpleNamespace(returncode=0 if self.python_runs else 1, stdout=self.python.encode())

    def Popen(self, command, cwd):  # noqa: N802
        assert cwd == str(self.start.ROOT)
        self.log.append([os.path.basename(command[0]), *command[1:]])
        return SimpleNamespace(wait=lambda: self.child_status, terminate=None)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """start.py as a module, in a folder of its own and on a made-up Linux machine."""
    for name in ("start.py", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    spec = importlib.util.spec_from_file_location("start", tmp_path / "start.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "subprocess", Machine(module))
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    return module


def calls(start):
    """What start.py has made of the machine since this was last asked."""
    log, start.subprocess.log = start.subprocess.log, []
    return log


PLAIN, WITH_DEV = "-e .", "-e .[dev]"
PYTEST = ["python", "-m", "pytest", "-n", "2", "--dist", "worksteal"]
RUN = [["cltutor", "run", "01"]]


def test_first_run_installs_and_the_second_starts_at_once(start, capfd):
    assert start.main(["run", "--seed", "3"]) == 0
    assert calls(start) == ["venv", PLAIN, ["cltutor", "run", "01", "--seed", "3"]]
    assert capfd.readouterr().out.count("\n") == 1
    assert start.main(["run"]) == 0
    assert calls(start) == RUN
    assert capfd.readouterr().out == ""


def test_each_command_starts_what_it_says(start):
    assert start.main(["test", "-k", "x"]) == 0
    assert calls(start) == ["venv", WITH_DEV, [*PYTEST, "-k", "x"]]
    assert start.main(["lab"]) == start.main(["notebooks"]) == start.main(["site"]) == 0
    site = ["python", str(start.ROOT / "site" / "build.py")]
    assert calls(start) == [["cltutor", "lab"], ["cltutor", "notebooks"], site]


def test_tests_after_a_plain_install_add_the_extra_once(start):
    start.main(["run"])
    start.main(["test"])
    assert calls(start)[-2:] == [WITH_DEV, PYTEST]
    start.main(["run"])
    assert calls(start) == RUN


def test_each_extra_holds_what_those_before_it_hold(start):
    start.main(["run"])
    start.main(["site"])
    assert calls(start)[-2] == "-e .[site]"
    start.main(["run"])
    start.main(["site"])
    assert [call for call in calls(start) if isinstance(call, str)] == []
    start.main(["test"])
    assert calls(start)[0] == WITH_DEV


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml", "python", "index"])
def test_installs_again_when_what_decides_it_changed(start, monkeypatch, changed):
    start.main(["run"])
    calls(start)
    if changed == "python":
        start.subprocess.python = "3.12.1"
    elif changed == "index":
        monkeypatch.setenv("TORCH_INDEX", "somewhere")
    else:
        with (start.ROOT / changed).open("a") as file:
            file.write("\n")
    start.main(["run"])
    assert calls(start)[-2:] == [PLAIN, *RUN]
    start.main(["run"])
    assert calls(start) == RUN


def test_a_moved_checkout_is_installed_again(start, tmp_path):
    before = start.fingerprint("", "3.11.7")
    start.ROOT = tmp_path / "moved"
    shutil.copytree(tmp_path, start.ROOT)
    assert start.fingerprint("", "3.11.7") != before


def test_torch_index_serves_torch_and_torchvision_alone(start, monkeypatch):
    monkeypatch.setenv("TORCH_INDEX", "somewhere")
    start.main(["run"])
    assert calls(start)[1:3] == [
        "--no-deps --index-url somewhere torch torchvision",
        PLAIN,
    ]


def test_failed_pip_says_what_to_do_and_is_not_taken_for_finished(start, capfd):
    start.subprocess.pip_status = 1
    assert start.main(["run"]) == 3
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in ("network or proxy", "6 GB", "TORCH_INDEX"))
    assert calls(start) == ["venv", PLAIN]
    start.subprocess.pip_status = 0
    assert start.main(["run"]) == 0
    assert calls(start) == [PLAIN, *RUN]


def test_install_cut_short_is_begun_again(start, monkeypatch, capfd):
    start.main(["run"])

    def interrupted(extra):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(start, "install", interrupted)
        assert start.main(["test"]) == 130
    assert "takes it up again" in capfd.readouterr().err
    calls(start)
    start.main(["run"])
    assert calls(start) == [PLAIN, *RUN]


def test_failed_venv_names_the_package(start, capfd):
    start.subprocess.venv_status = 1
    assert start.main(["run"]) == 3
    assert "python3-venv" in capfd.readouterr().err
    assert calls(start) == ["venv"]


@pytest.mark.parametrize("broken", ["python missing", "interpreter gone", "no pip"])
def test_broken_venv_is_set_aside_and_built_again(start, broken, capfd):
    start.main(["run"])
    calls(start)
    (start.VENV / "mine").touch()
    if broken == "python missing":
        start.PYTHON.unlink()
    elif broken == "interpreter gone":
        start.subprocess.python_runs = False
    else:
        start.STAMP.unlink()
        start.subprocess.pip_runs = False
    assert start.main(["run"]) == 0
    assert calls(start) == ["venv", PLAIN, *RUN]
    assert (start.ROOT / ".venv.broken-1" / "mine").exists() and not (start.VENV / "mine").exists()
    assert ".venv.broken-1" in capfd.readouterr().out


def test_missing_command_is_installed_again(start):
    start.main(["run"])
    calls(start)
    start.CLTUTOR.unlink()
    start.main(["run"])
    assert calls(start) == [PLAIN, *RUN]


@pytest.mark.parametrize("arguments", [[], ["runs"], ["--help"]])
def test_wrong_usage(start, arguments, capfd):
    assert start.main(arguments) == 2
    assert capfd.readouterr().err.startswith("usage: python3 start.py run|test|lab")
    assert calls(start) == [] and not start.VENV.exists()


def test_folder_that_cannot_be_written(start, capfd):
    (start.ROOT / ".setup.lock").mkdir()
    assert start.main(["run"]) == 3
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "writable" in error


def test_old_python_gets_one_line(start, monkeypatch, capfd):
    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))
    monkeypatch.setattr(start.platform, "python_version", lambda: "3.10.13")
    assert start.main(["run"]) == 3
    error = capfd.readouterr().err
    assert "3.11 or newer" in error and "3.10.13" in error and error.count("\n") == 1
    # It must get that far: no syntax that an old Python refuses.
    ast.parse((ROOT / "start.py").read_text(), feature_version=(3, 6))


def test_intel_mac_gets_one_line(start, monkeypatch, capfd):
    monkeypatch.setattr(start.sys, "platform", "darwin")
    monkeypatch.setattr(start.platform, "machine", lambda: "x86_64")
    assert start.main(["run"]) == 3
    assert "Intel Macs" in capfd.readouterr().err
    assert calls(start) == []


def python(code):
    """A process of its own in which start.py can be imported."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", f"import start, os, signal, sys\n{code}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize(
    "child, status",
    [
        ("sys.exit(7)", 7),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM)", 143, marks=posix_only),
        # Ctrl-C reaches both: the child decides.
        pytest.param("os.kill(os.getppid(), signal.SIGINT); sys.exit(5)", 5, marks=posix_only),
    ],
)
def test_exit_status_of_the_child_is_passed_on(child, status):
    command = [sys.executable, "-c", f"import os, signal, sys\n{child}"]
    assert python(f"sys.exit(start.pass_on({command}))").wait() == status


@posix_only
def test_termination_reaches_the_child():
    ended = "print('ended', flush=True) or sys.exit(4)"
    child = f"import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: {ended})\n"
    child += "print('ready', flush=True)\ntime.sleep(20)"
    process = python(f"sys.exit(start.pass_on({[sys.executable, '-c', child]}))")
    assert process.stdout.readline() == "ready\n"
    # The handlers are in place once "ready" was read: the interpreter of the child takes longer.
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == "ended\n"
    assert process.wait() == 4


def test_the_second_waits_until_the_first_has_ended_or_died(tmp_path):
    path = str(tmp_path / "lock")
    hold = f"with start.locked(start.Path({path!r})):\n    print('held')\n    sys.stdin.read(1)"
    first, second = python(hold), None
    try:
        assert first.stdout.readline() == "held\n"
        second = python(hold)
        assert "waiting" in second.stdout.readline()
        first.kill()
        assert second.stdout.readline() == "held\n"
        assert second.communicate("x")[0] == "" and second.returncode == 0
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.wait()


# --- make, .ci/run, CI ---------------------------------------------------------------------------


@posix_only
@pytest.mark.parametrize("target", ["run", "test", "lab", "notebooks", "site"])
def test_make_is_thin_over_start(target):
    dry = ["make", "--dry-run", "--no-print-directory", target, "ARGS=--seed 1"]
    answer = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout == f"python3 start.py {target} --seed 1\n"


@posix_only
def test_make_alone_prints_the_targets():
    answer = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.findall(r"^make (\w+)", answer.stdout, re.MULTILINE) == [
        *("run", "test", "lab", "notebooks", "site", "lock")
    ]


@posix_only
def test_ci_run_is_make_test_in_its_own_checkout_without_stdin(tmp_path):
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "$PWD|$*|$(cat)"\nexit 6\n')
    make.chmod(0o755)
    answer = subprocess.run(
        [ROOT / ".ci" / "run"],
        cwd=tmp_path,
        input="not for you",
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    )
    assert answer.stdout == f"{ROOT}|test|\n"
    assert answer.returncode == 6


def test_workflow_runs_what_it_should():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert {"push", "pull_request", "schedule"} <= workflow[True].keys()  # YAML 1.1: on is true
    jobs = workflow["jobs"]

    def steps(job):
        return [step["run"] for step in jobs[job]["steps"] if "run" in step]

    assert steps("test") == [".ci/run"]
    resolutions = jobs["nightly-dependencies"]["strategy"]["matrix"]["include"]
    assert {entry["resolution"] for entry in resolutions} == {"lowest-direct", "highest"}
    assert steps("nightly-dependencies")[-1].endswith("-m pytest")
    systems = jobs["nightly-systems"]["strategy"]["matrix"]["system"]
    assert systems == ["macos-latest", "windows-latest"]
    run, tests = steps("nightly-systems")
    assert run == "python start.py run"
    assert tests.startswith("python start.py test tests/")
    assert all((ROOT / path).is_file() for path in tests.split()[3:])
    used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used)


def test_the_site_goes_out_only_after_all_its_pages_were_looked_at():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "site.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    built, deployed = workflow["jobs"]["build"], workflow["jobs"]["deploy"]
    assert built["env"]["CLTUTOR_EVERY_PAGE"] and deployed["needs"] == "build"
    assert deployed["permissions"] == {"pages": "write", "id-token": "write"}
    steps = [step.get("run") or step["uses"] for step in built["steps"] + deployed["steps"]]
    assert [re.sub(r"@v\d+$", "", step) for step in steps] == [
        "actions/checkout",
        "actions/setup-python",
        "python start.py test tests/test_site.py",
        "python start.py site",
        "actions/configure-pages",
        "actions/upload-pages-artifact",
        "actions/deploy-pages",
    ]
    (upload,) = [step for step in built["steps"] if "upload" in step.get("uses", "")]
    assert upload["with"] == {"path": "build/site"}
