"""What a reader of the code may rely on: the common shape of method files, sizes, imports, format.

Each rule is a function of source text that returns what is wrong; a bad example per rule shows that
it can.
"""

import ast
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import cltutor

PACKAGE = Path(cltutor.__file__).parent
ROOT = PACKAGE.parent
METHODS = sorted(path for path in PACKAGE.glob("methods/*.py") if path.name != "__init__.py")
MODULES = sorted(PACKAGE.rglob("*.py"))

# What every `run` contains, in this order.
CORE = (
    r"def run\(stream, cfg, \*, device=\"cpu\", carried=None\):\n",
    r'    """Learn the stream; yield a tick per optimiser step and an end tick per experience\."""',
    r"    for exp in stream:\n",
    r"        # What this experience starts from\n",
    r"        for step, \(x, y\) in enumerate\(\s*batches\(",
    r"zero_grad\(\)\n",
    r"\.backward\(\)\n",
    r"\.step\(\)\n",
    r"        # What survives to the next experience\n",
    r"        carried = \{",
    r"        yield Tick\(exp\.k,",
)
CORE_EXCEPTIONS: tuple[tuple[str, str, str], ...] = ()  # (file, pattern, reason)

LINES, METHOD_LINES = 250, 150
LONG_METHODS = {"dgm.py": 200, "jdcl.py": 200, "vdfd.py": 200}  # several networks and losses each
LARGE_FILES: dict[str, str] = {}  # file over 1 MB: reason

HEADINGS = ("Idea.", "Loss.", "Carried.", "Toggle.", "Deviations.", "Reference.")
NOT_IN_METHODS = {
    *("methods", "metrics", "figures", "recipe", "claims", "records", "runs", "cache"),
    *("checkpoint", "result", "judge", "samples", "check", "notebook", "cli", "session", "panel"),
    "course",
}
NOT_IN_CORE = {"IPython", "ipykernel", "ipywidgets", "jupyter_core", "jupyter_client", "nbformat"}
NOT_IN_CORE |= {"nbconvert", "papermill", "matplotlib", "torchvision"}
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
NEVER = {"rand_like", "randn_like", "randint_like", "manual_seed", "seed", "set_rng_state"}
NEVER |= {"dropout", "Dropout", "BatchNorm1d", "BatchNorm2d", "batch_norm"}


def imports(source: str) -> set[str]:
    """The full names of all that is imported, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return names


def calls(source: str) -> list[tuple[str, ast.Call]]:
    """(dotted name, node) of every call; "" stands for what is not a name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            parts, function = [], node.func
            while isinstance(function, ast.Attribute):
                parts, function = [function.attr, *parts], function.value
            first = function.id if isinstance(function, ast.Name) else ""
            found.append((".".join([first, *parts]), node))
    return found


def core(source: str) -> list[str]:
    """CORE patterns that `run` lacks, or has out of order."""
    at, missing = 0, []
    for pattern in CORE:
        match = re.compile(pattern).search(source, at)
        if match:
            at = match.end()
        else:
            missing.append(pattern)
    return missing


def headings(source: str) -> list[str]:
    """The docstring's paragraphs' headings, if they are not as they should be."""
    paragraphs = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")
    found = [p.split()[0] for p in paragraphs if p.split()[0] in HEADINGS]
    return [] if tuple(found) == HEADINGS else found or ["none"]


def yields_in_with(source: str) -> list[int]:
    """Lines of `yield` inside a `with`: the consumer would run in that context."""
    withs = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.With | ast.AsyncWith)]
    inside = (node for one in withs for node in ast.walk(one))
    return [node.lineno for node in inside if isinstance(node, ast.Yield | ast.YieldFrom)]


def foreign_imports(source: str) -> list[str]:
    """What a method may not import; nor anything in a way that the cache's hash does not follow."""
    wrong = []
    for name in imports(source):
        parts = name.split(".")
        if parts[0] == "cltutor":
            wrong += [name] if len(parts) < 3 or parts[1] in NOT_IN_METHODS else []
        elif parts[0] in NOT_IN_CORE or parts[0] in ("", "random"):
            wrong.append(name)
    return wrong


def reflection(source: str) -> list[str]:
    """hasattr and its kin."""
    return [name for name, _ in calls(source) if name in ("hasattr", "getattr", "setattr")]


def unnamed_draws(source: str) -> list[str]:
    """Calls that draw from, or touch, a global generator; layers that do so in training."""
    wrong = []
    for name, node in calls(source):
        first, last = name.split(".")[0], name.split(".")[-1]
        named = any(keyword.arg == "generator" for keyword in node.keywords)
        in_place = last.endswith("_") and last[:-1] in DRAWS | {"uniform", "exponential"}
        drawn = (first == "torch" and last in DRAWS) or in_place
        if (drawn and not named) or last in NEVER or name.startswith(("np.random", "random.")):
            wrong.append(name)
    return wrong


def undocumented(source: str) -> list[str]:
    """Public functions, classes and their public methods without a docstring."""
    wrong, tree = [], ast.parse(source)
    for node in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]:
        for child in node.body:
            if isinstance(child, ast.FunctionDef | ast.ClassDef) and child.name[0] != "_":
                if ast.get_docstring(child) is None:
                    wrong.append(child.name)
    return wrong


METHOD_RULES = (
    core, headings, yields_in_with, foreign_imports, reflection, unnamed_draws
)  # fmt: skip


@pytest.mark.parametrize("rule", METHOD_RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_methods(path, rule):
    excused = [line for file, line, _ in CORE_EXCEPTIONS if file == path.name]
    assert rule(path.read_text(encoding="utf-8")) == (excused if rule is core else [])


FINETUNE = (PACKAGE / "methods" / "finetune.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rule", "old", "new"),
    [
        (core, "# What survives to the next experience", "# What survives"),
        (core, "            optimizer.zero_grad()\n            loss.backward()",
         "            loss.backward()\n            optimizer.zero_grad()"),
        (headings, "Toggle. None.", "Switches. None."),
        (headings, "Toggle. None.\n\nDeviations.", "Deviations. None.\n\nToggle."),
        (yields_in_with, "            yield", "            with x:\n                yield"),
        (foreign_imports, "import torch\n", "import torch\nfrom cltutor.methods import dgr\n"),
        (foreign_imports, "import torch\n", "import torch\nfrom cltutor.methods.dgr import run\n"),
        (foreign_imports, "import torch\n", "import torch\nfrom . import dgr\n"),
        (foreign_imports, "import torch\n", "import torch\nfrom cltutor import vae\n"),
        (foreign_imports, "import torch\n", "import torch\nimport cltutor.vae\n"),
        (foreign_imports, "import torch\n", "import torch\nimport matplotlib.pyplot as plt\n"),
        (foreign_imports, "import torch\n", "import torch\nfrom cltutor.metrics import acc\n"),
        (reflection, 'learner["solver"]\n', 'getattr(learner, "solver")\n'),
        (unnamed_draws, "loss.backward()", "torch.randn(3)"),
        (unnamed_draws, "loss.backward()", "torch.randn_like(x)"),
        (unnamed_draws, "loss.backward()", "x.normal_()"),
        (unnamed_draws, "loss.backward()", "torch.manual_seed(0)"),
        (unnamed_draws, "loss.backward()", "np.random.rand(3)"),
        (unnamed_draws, "loss.backward()", "F.dropout(x)"),
        (undocumented, '    """Learn the stream;', '    x = """Learn the stream;'),
    ],
)  # fmt: skip
def test_the_rules_see_what_is_wrong(rule, old, new):
    assert FINETUNE.count(old) >= 1
    assert not [wrong for wrong in rule(FINETUNE) if wrong != "Config"]
    assert [wrong for wrong in rule(FINETUNE.replace(old, new, 1)) if wrong != "Config"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_short_and_documented(path):
    source = path.read_text(encoding="utf-8")
    most = LONG_METHODS.get(path.name, METHOD_LINES) if path in METHODS else LINES
    assert len(source.splitlines()) <= most
    assert ast.get_docstring(ast.parse(source)) or not source
    assert [name for name in undocumented(source) if name != "Config"] == []


def test_only_recipe_and_check_import_methods():
    importing = {
        path.relative_to(PACKAGE).parts[0]
        for path in MODULES
        if any(name.startswith("cltutor.methods") for name in imports(path.read_text("utf-8")))
    }
    assert "recipe.py" in importing and importing <= {"recipe.py", "check"}


def test_the_core_runs_without_jupyter_figures_and_torchvision():
    names = ["cltutor.recipe", "cltutor.metrics", "cltutor.judge", "cltutor.samples"]
    for folder in ("methods", "nets"):
        names += [f"cltutor.{folder}.{path.stem}" for path in (PACKAGE / folder).glob("[a-z]*.py")]
    program = f"import sys, {', '.join(names)}; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )
    loaded = {name.split(".")[0] for name in loaded.stdout.split()}
    assert "torch" in loaded and not loaded & NOT_IN_CORE


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """The files of the repository: tracked, or new and not ignored."""
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a checkout")
    paths = [ROOT / name for name in sorted(set(listed.stdout.split("\0"))) if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content(command, files):
    """Of modules and scripts; notebook cells are laid out by hand, to be short."""
    scripts = [str(path.relative_to(ROOT)) for path in files if path.suffix == ".py"]
    assert len(scripts) > 20
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", *scripts]
    done = subprocess.run(ruff, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_repository_is_small(files):
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in files}
    assert sum(sizes.values()) < 30e6
    assert {name for name, size in sizes.items() if size > 1e6} == set(LARGE_FILES)


def test_the_repository_names_no_place_outside_it(files):
    foreign = re.compile(r"/work/|shared/|/root/|/home/(?!me/)\w|/Users/\w|[A-Z]:\\Users")
    found = []
    for path in files:
        content = path.read_bytes()
        if b"\0" not in content and path != Path(__file__):
            hits = foreign.findall(content.decode())
            found += [f"{path.relative_to(ROOT)}: {hit}" for hit in hits]
    assert found == []


def test_tests_cannot_reach_other_machines(no_network):
    for reach in (
        lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
        lambda: socket.create_connection(("example.invalid", 80), timeout=1),
        lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"", ("192.0.2.1", 80)),
    ):
        with pytest.raises(OSError, match="a test may not reach"):
            reach()
    assert [tried.split()[1] for tried in no_network] == [
        "192.0.2.1",
        "example.invalid",
        "192.0.2.1",
    ]
    no_network.clear()
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=10).close()
    assert no_network == []
