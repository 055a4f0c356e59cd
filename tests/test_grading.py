"""Grading: hostile submissions, first seen to do harm, then isolated; reports; going on.

The harm is of the kind and not of the size of the real thing: 300 MB for 8 GB, 30 processes that
end by themselves for a fork bomb. Where the system allows no name spaces the tests that need them
are skipped and say so.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from cltutor.course import build, grade, places, report, runner
from cltutor.course.limits import Limits
from cltutor.course.variants import variants
from cltutor.errors import UserError

KEY = "spring-course"
VARIANTS = {one.id: one for one in variants(KEY)}
ONE = VARIANTS["01-graded"]
LIMITS = Limits(seconds=3, memory=150)
CALL = {"function": "f", "calls": {"a": [[1]]}}


class Here:
    """A place for sources of our own: this process."""

    name, limits = "this process", LIMITS

    def run(self, job):
        return list(runner.answers(job)), {"end": "done"}


@pytest.fixture(scope="module")
def isolated():
    """Name spaces, entered once for all tests."""
    place = places.Namespaces(LIMITS)
    try:
        place.__enter__()
    except UserError as error:
        pytest.skip(f"no isolation here: {error}")
    yield place
    place.__exit__()


@pytest.fixture(scope="module")
def trusted():
    return places.trusted(LIMITS)


def submission(folder: Path, source: str, variant=ONE) -> None:
    """A notebook in which `source` stands in the exercise's cell."""
    folder.mkdir(parents=True, exist_ok=True)
    nb = build.graded(variant, KEY)
    for cell in nb.cells:
        if cell.id == variant.id:
            cell.source = source
    nbformat.write(nb, folder / f"{variant.id}.ipynb")


# --- hostile submissions --------------------------------------------------------------------------

HOSTILE = {
    "endless loop": "def f(*x):\n    while True:\n        pass\n",
    "endless import": "class A:\n    while True:\n        pass\ndef f(*x):\n    return 1\n",
    "memory": "def f(*x):\n    return len(bytearray(300 << 20)) * 0 + 1\n",
    "delete": "import os\ndef f(*x):\n    os.remove({victim!r})\n    return 1\n",
    "overwrite": "def f(*x):\n    open({victim!r}, 'w').write('x')\n    return 1\n",
    "read": "def f(*x):\n    return open({victim!r}, 'rb').read().count(b'secret')\n",
    "read the grader": "def f(*x):\n    return int(len(open('/proc/{pid}/cmdline').read()) > 0)\n",
    "network": (
        "import socket\ndef f(*x):\n"
        "    socket.create_connection(('127.0.0.1', {port}), 2).sendall(b'x')\n    return 1\n"
    ),
    "fork bomb": (
        "import os, time\ndef f(*x):\n    n = 0\n    for _ in range(30):\n"
        "        if os.fork() == 0:\n            time.sleep(2)\n            os._exit(0)\n"
        "        n += 1\n    return int(n == 30)\n"
    ),
    "kill": "import os, signal\ndef f(*x):\n    os.kill({child}, signal.SIGKILL)\n    return 1\n",
}


def harmed(place, source: str):
    """What came back of a hostile function that answers 1 when it has done its harm."""
    answers, end = place.run({"source": source, **CALL})
    return [one.get("answer") for one in answers], end["end"]


@pytest.fixture
def world(tmp_path):
    """What may be harmed: a file, a server, a process; `source(name)` aims at them."""
    victim = tmp_path / "victim"
    victim.write_text("secret")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)

        class World:
            def source(self, name):
                port = server.getsockname()[1]
                return HOSTILE[name].format(
                    victim=str(victim), port=port, pid=os.getpid(), child=child.pid
                )

            def unharmed(self):
                try:
                    server.accept()[0].close()
                    return False
                except BlockingIOError:
                    content = victim.read_text() if victim.exists() else ""
                    return content == "secret" and child.poll() is None

        yield World()
    child.kill()
    child.wait()


@pytest.mark.parametrize("name", HOSTILE)
def test_harm_is_done_without_isolation(name, trusted, world):
    if name.startswith("endless"):
        assert harmed(trusted_for(1.0), world.source(name)) == ([], "time")
        return
    assert world.unharmed()
    assert harmed(trusted, world.source(name)) == ([1], "done")
    deadline = time.monotonic() + 5
    while name == "kill" and world.unharmed() and time.monotonic() < deadline:
        time.sleep(0.05)
    reading = ("memory", "read", "read the grader", "fork bomb")
    assert world.unharmed() == (name in reading)


def trusted_for(seconds):
    """Without isolation, and with little patience."""
    place = places.trusted(Limits(seconds=seconds))
    place.limits = Limits(seconds=seconds - places.PATIENCE / 2 + 5)
    return place


@pytest.mark.parametrize("name", HOSTILE)
def test_no_harm_is_done_with_isolation(name, isolated, world):
    start = time.monotonic()
    answers, end = harmed(isolated, world.source(name))
    assert 1 not in answers and world.unharmed()
    assert end in ("done", "time", "memory", "killed")
    assert time.monotonic() - start < LIMITS.seconds + places.PATIENCE
    assert harmed(isolated, "def f(x):\n    return 1\n") == ([1], "done")  # the next is not hurt


PROBES = {
    "user": "import os\ndef f(x):\n    return [os.getuid(), os.getpid()]\n",
    "no capability": (
        "def f(x):\n    return int([line.split()[1] for line in open('/proc/self/status') "
        "if line.startswith('CapEff')][0], 16)\n"
    ),
    "no new name space": (
        "import ctypes\ndef f(x):\n    return ctypes.CDLL(None).unshare(0x10000000)\n"
    ),
    "not root": "import os\ndef f(x):\n    os.setuid(0)\n    return 1\n",
    "no kernel settings": (
        "def f(x):\n    open('/proc/sys/kernel/core_pattern', 'w')\n    return 1\n"
    ),
    "no root to write": "def f(x):\n    open('/usr/x', 'w')\n    return 1\n",
    "no sources of the graded exercises": (
        "def f(x):\n    import cltutor.course.variants\n    return 1\n"
    ),
    "the kit": "def f(x):\n    from cltutor.gan import __doc__\n    return len(__doc__) * 0\n",
    "scratch": (
        "def f(x):\n    open('a', 'w').write('abc')\n    return len(open('/scratch/a').read())\n"
    ),
    "little scratch": "def f(x):\n    open('a', 'wb').write(bytes(40 << 20))\n    return 1\n",
    "limits": (
        "import resource\ndef f(x):\n    kinds = ('NPROC', 'NOFILE', 'FSIZE', 'CORE', 'CPU')\n"
        "    return [resource.getrlimit(getattr(resource, 'RLIMIT_' + k))[1] for k in kinds]\n"
    ),
    "mounts": (
        "def f(x):\n    lines = [line.split() for line in open('/proc/self/mounts')]\n"
        "    writable = [l[1] for l in lines if 'ro' not in l[3].split(',')]\n"
        "    return [len(lines) > 3, writable == ['/scratch']]\n"
    ),
    "no environment": "import os\ndef f(x):\n    return int('CLTUTOR_KEY' in os.environ)\n",
    "no other files": (
        "import os\ndef f(x):\n    return [int(n) for n in os.listdir('/proc/self/fd')]\n"
    ),
}  # fmt: skip


def test_what_is_inside(isolated):
    def told(name):
        answers, _ = isolated.run({"source": PROBES[name], **CALL})
        return answers[0].get("answer", answers[0].get("error"))

    assert told("user") == [65534, 1]
    assert told("no capability") == 0
    assert told("no new name space") == -1
    assert "PermissionError" in told("not root") or "Invalid argument" in told("not root")
    for name in ("no kernel settings", "no root to write"):
        assert "Read-only file system" in told(name) or "PermissionError" in told(name)
    assert "ModuleNotFoundError" in told("no sources of the graded exercises")
    assert told("limits") == [LIMITS.processes, LIMITS.files, LIMITS.scratch << 20, 0, 4]
    assert told("mounts") == [True, True]
    assert told("the kit") == 0 and told("scratch") == 3
    assert "Error" in told("little scratch") and told("no environment") == 0
    assert len(told("no other files")) <= 7  # the three, the socket twice, /dev/null, the listing


def test_an_ordinary_user_is_isolated_as_well(isolated):
    """Root maps two users, others themselves alone; here as user 1000 of a name space."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare to become another user with")
    program = (
        "from cltutor.course import places\nfrom cltutor.course.limits import Limits\n"
        f"job = dict(function='f', calls=dict(a=[[1]]), source={PROBES['no capability']!r})\n"
        "with places.Namespaces(Limits()) as place:\n    print(place.run(job))\n"
    )
    user = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    command = [*user, sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert "'answer': 0}], {'end': 'done'})" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("code", [0, 1, 2, 77, 255])
def test_no_exit_status_stops_the_grading(code, isolated):
    source = f"import os\ndef f(x):\n    os._exit({code})\n"
    assert harmed(isolated, source) == ([], "killed" if code else "done")


def test_nothing_is_left_of_one_job_for_the_next(isolated):
    leave = "def f(x):\n    open('/scratch/left', 'w').write('x')\n    np.left = 7\n    return 1\n"
    find = (
        "import os\ndef f(x):\n    return [len(os.listdir('/scratch')), hasattr(np, 'left') * 1]\n"
    )
    assert harmed(isolated, leave) == ([1], "done")
    assert harmed(isolated, find) == ([[0, 0]], "done")


# Graders as they are often written, in the process of the student: `expected` is 3.
NAIVE = {
    "exit status": (
        "{source}\nassert abs(f(1) - 3) < 1e-6\n",
        "import os\ndef f(*x):\n    os._exit(0)\n",
    ),
    "patched checker": (
        "import cltutor.check\n{source}\nfrom cltutor.check import check\n"
        "assert check('01-importance', f)\n",
        "import sys\nimport cltutor.check\ncltutor.check.check = lambda *arguments: True\n"
        "kit = sys.modules.get('cltutor.course.runner', cltutor.check)\n"
        "kit.plain = lambda value, level=0: {'passed': True, 'points': 4}\n"
        "def f(*x):\n    return 'anything'\n",
    ),
    "always equal": (
        "{source}\nassert f(1) == 3\n",
        "class Yes:\n    def __eq__(self, other):\n        return True\n"
        "    def __float__(self):\n        raise ValueError\n"
        "def f(*x):\n    return Yes()\n",
    ),
    "a number that is always equal": (
        "{source}\nassert f(1) == 3\n",
        "class Yes(float):\n    def __eq__(self, other):\n        return True\n"
        "def f(*x):\n    return Yes(99)\n",
    ),
    "fake output": (
        "{source}\nscore = 4 if f(1) == 3 else 0\nprint('score', score)\n",
        "import os\ndef f(*x):\n"
        "    line = b'score 4\\n' + b'{\"score\": 4}\\n{\"test\": \"no past\", \"call\": 0, '\\\n"
        "        b'\"answer\": 1, \"passed\": true}\\n{\"end\": \"done\"}\\n'\n"
        "    for n in range(20):\n"
        "        try:\n            os.write(n, line)\n        except OSError:\n            pass\n"
        "    os._exit(0)\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAIVE)
def test_a_grader_in_the_students_process_is_deceived(name, isolated, tmp_path):
    naive, source = NAIVE[name]
    program = naive.replace("{source}", source)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0 and (name != "fake output" or "score 4" in done.stdout)
    # and ours is not
    source = source.replace("def f(", f"def {ONE.function}(")
    submission(tmp_path / "in" / "eve", source)
    ((_, told, _),) = grade.grade(tmp_path / "in", tmp_path / "out", KEY, isolated, [ONE.id])
    assert told["points"] == 0 and told["of"] == ONE.points


def test_hostile_submissions_stop_nobody_and_touch_nothing(isolated, world, tmp_path):
    given, out = tmp_path / "in", tmp_path / "out"
    for n, name in enumerate(HOSTILE):
        source = world.source(name).replace("def f(", f"def {ONE.function}(")
        submission(given / f"{2 * n:02} {name}", source)
    submission(given / "01 ada", ONE.solution)
    submission(given / "99 zoe", ONE.solution)
    before = {path: path.read_bytes() for path in given.rglob("*") if path.is_file()}
    told = {who: one for who, one, _ in grade.grade(given, out, KEY, isolated, [ONE.id])}
    assert {who: one["points"] for who, one in told.items() if one["points"]} == {
        "01 ada": ONE.points,
        "99 zoe": ONE.points,
    }
    assert len(told) == len(HOSTILE) + 2 and world.unharmed()
    assert {path: path.read_bytes() for path in given.rglob("*") if path.is_file()} == before
    assert {path.name for path in out.iterdir()} == {"reports", "grades.csv", "grading.json"}
    hints = json.dumps(told["00 endless loop"])
    assert "It took longer than 3 seconds." in hints


# --- the command ----------------------------------------------------------------------------------


def command(*words, **options):
    words = [sys.executable, "-m", "cltutor.cli", "grade", *map(str, words)]
    return subprocess.run(words, capture_output=True, text=True, timeout=250, **options)


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """The line of a refused `cltutor grade`, run in this process."""
    from cltutor import cli

    (tmp_path / "in").mkdir()
    submission(tmp_path / "in" / "ada", ONE.stub)
    monkeypatch.delenv("CLTUTOR_KEY", raising=False)
    monkeypatch.chdir(tmp_path)

    def told(words):
        monkeypatch.setattr(sys, "argv", ["cltutor", *words.split()])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        return capsys.readouterr().err

    return told


@pytest.mark.parametrize(
    "words, line",
    [
        ("grade in --out out", "grading needs the key of the release"),
        ("grade in --out out --key abc", "the key has 3 characters"),
        ("grade in --out out --key long-enough --container lxc", "--container is docker or podman"),
        ("grade in --out out --key long-enough --container docker --trust", "excludes --trust"),
        ("grade in --out out --key long-enough --exercise 99", "unknown exercise '99'"),
        ("grade nowhere --out out --key long-enough", "nowhere is no folder"),
        ("grade in --out out --key long-enough --seconds 0", "--seconds"),
        ("release", "say what to write"),
        ("release --instructor x", "--instructor needs the key"),
        ("release --student in --key long-enough", "in exists already"),
        ("release --scan in", "--scan needs the key"),
        ("release --scan nowhere --key long-enough", "nowhere is no folder"),
        ("release --student x --key abc", "the key has 3 characters"),
    ],
)
def test_wrong_input(refused, words, line):
    assert line in refused(words)
    assert not Path("out").exists() and not Path("x").exists()


def test_without_name_spaces_it_refuses(isolated, tmp_path):
    """In a name space of our own, in which no further ones may be made."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare to forbid name spaces with")
    submission(tmp_path / "in" / "ada", ONE.solution)
    words = f"{sys.executable} -m cltutor.cli grade in --out out --key {KEY}"
    shell = f"echo 0 > /proc/sys/user/max_user_namespaces && exec {words}"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", shell],
        cwd=tmp_path, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 2 and "namespaces do not work here" in done.stderr
    assert "--container docker or podman" in done.stderr and "--trust" in done.stderr
    assert not (tmp_path / "out").exists()


def test_another_system_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UserError, match="no namespaces on darwin: grade with --container"):
        places.Namespaces(LIMITS).__enter__()


def test_containers_and_trust_need_nothing_of_linux():
    modules = "cltutor.course.places, cltutor.course.grade, cltutor.course.release"
    program = f"import sys; sys.modules['resource'] = None; import {modules}"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_trust_warns_and_grades(tmp_path):
    submission(tmp_path / "in" / "ada", ONE.solution)
    done = command(
        "in", "--out", "out", "--key", KEY, "--exercise", ONE.id, "--trust", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "Warning: --trust" in done.stdout and "Isolation: NONE" in done.stdout
    assert f"ada: {ONE.points} of {ONE.points}" in done.stdout


def test_containers_are_started_closed(tmp_path, monkeypatch):
    """With a docker of our own, which notes how it was called and runs the rest."""
    tool = tmp_path / "docker"
    tool.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/called\n'
        'while [ "$1" != python ]; do shift; done\nshift\n'
        f'exec {sys.executable} "$@"\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with places.container(LIMITS, "docker", "course") as place:
        assert harmed(place, "def f(x):\n    return 1\n") == ([1], "done")
    called = (tmp_path / "called").read_text()
    for option in ("--network=none", "--read-only", "--cap-drop=ALL", "--memory=", "--pids-limit="):
        assert option in called
    name = called.split("--name=")[1].split()[0]
    assert name.startswith("cltutor-")
    monkeypatch.setattr(places, "PATIENCE", 0.0)
    tool.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n[ "$1" = kill ] || sleep 60\n')
    place = places.container(Limits(seconds=1), "docker", "course")
    assert harmed(place, "") == ([], "time")
    started, killed = (tmp_path / "called").read_text().splitlines()[-2:]
    assert f"--name={killed.split()[1]} " in started and killed.startswith("kill cltutor-")
    tool.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UserError, match="docker does not run a function"):
        places.container(LIMITS, "docker", "course").__enter__()


def test_a_killed_grading_goes_on(isolated, tmp_path):
    for n in range(6):
        submission(tmp_path / "in" / f"student {n}", ONE.solution if n % 2 else ONE.stub)
    slow = f"import time\ndef {ONE.function}(*x):\n    time.sleep(0.5)\n    return 1\n"
    submission(tmp_path / "in" / "student 4", slow)
    words = [sys.executable, "-m", "cltutor.cli", "grade", "in", "--out", "out", "--key", KEY]
    words += ["--exercise", ONE.id]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL)
    reports = tmp_path / "out" / "reports"
    deadline = time.monotonic() + 100
    while len(list(reports.glob("*/report.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in reports.glob("*/report.json")}
    assert 3 <= len(done) < 6
    seed = (tmp_path / "out" / "grading.json").read_bytes()
    submission(tmp_path / "in" / "student 0", ONE.solution)  # handed in again meanwhile
    told = command("in", "--out", "out", "--key", KEY, "--exercise", ONE.id, cwd=tmp_path)
    assert told.returncode == 0 and told.stdout.count("graded before") == len(done) - 1
    assert (tmp_path / "out" / "grading.json").read_bytes() == seed
    again = next(iter(done)).parents[1] / "student 0" / "report.json"
    assert json.loads(again.read_text())["points"] == ONE.points
    del done[again]
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert len(list(reports.glob("*/report.html"))) == 6
    other = command("in", "--out", "out", "--key", "another key", cwd=tmp_path)
    assert other.returncode == 2 and "is of another key" in other.stderr


def test_a_hundred_submissions_with_one_command(isolated, tmp_path):
    for n in range(100):
        submission(tmp_path / "in" / f"student {n:03}", ONE.solution if n % 10 else ONE.stub)
    told = command("in", "--out", "out", "--key", KEY, "--exercise", ONE.id, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    lines = (tmp_path / "out" / "grades.csv").read_text().splitlines()
    assert lines[0] == "student,01-graded,points,of" and len(lines) == 101
    assert sum(line.endswith(f"{ONE.points:.1f},4") for line in lines) == 90


# --- what is taken of a submission, and what is told ----------------------------------------------


def graded(tmp_path, *files):
    """The one report of files {name: text} handed in by ada."""
    folder = tmp_path / "in" / "ada"
    folder.mkdir(parents=True)
    for name, text in files:
        (folder / name).write_text(text, "utf-8")
    ((_, told, _),) = grade.grade(tmp_path / "in", tmp_path / "out", KEY, Here(), [ONE.id])
    return told


def handed_in(source=ONE.solution, **changes):
    nb = build.graded(ONE, KEY)
    for cell in nb.cells:
        cell.source = source if cell.id == ONE.id else changes.get(cell.id[10:], cell.source)
    return nbformat.writes(nb)


def test_only_names_of_tests_and_hints_are_told(tmp_path):
    old, new, hint = ONE.mistakes[1]
    told = graded(tmp_path, ("a.ipynb", handed_in(ONE.solution.replace(old, new))))
    seed = json.loads((tmp_path / "out" / "grading.json").read_text())["seed"]
    folder = tmp_path / "out" / "reports" / "ada"
    assert {path.name for path in folder.iterdir()} == {
        f"report.{end}" for end in ("html", "csv", "json")
    }
    for path in folder.iterdir():
        text = path.read_text("utf-8")
        assert "a long past" in text and hint.replace("`", "`") in text
        for secret in (KEY, str(seed), "0.03", *ONE.solution.splitlines()[3:]):
            assert secret not in text, secret
    assert 0 < told["points"] < told["of"]


def test_locked_cells_are_as_handed_out(tmp_path):
    told = graded(tmp_path, ("a.ipynb", handed_in(imports="torch = None", text="Return 1.")))
    assert told["points"] == told["of"] and len(told["notes"]) == 2
    assert "The locked cell 01-graded-imports was changed" in told["notes"][0]


def test_what_is_no_notebook_is_left_out(tmp_path):
    told = graded(tmp_path, ("a.ipynb", "{"), ("b.ipynb", "[]"), ("c.ipynb", handed_in()))
    assert told["points"] == told["of"]
    assert told["notes"] == ["A file is no notebook and was left out."] * 2


def test_nothing_handed_in(tmp_path):
    told = graded(tmp_path, ("a.txt", ""))
    assert told["points"] == 0 and told["exercises"][0]["tests"][0]["hint"] == grade.MISSING
    with pytest.raises(UserError, match="holds no submission"):
        (tmp_path / "empty").mkdir()
        list(grade.found(tmp_path / "empty"))


def test_links_out_of_a_submission_are_not_followed(tmp_path):
    (tmp_path / "other.ipynb").write_text(handed_in())
    (tmp_path / "in" / "ada").mkdir(parents=True)
    (tmp_path / "in" / "ada" / "a.ipynb").symlink_to(tmp_path / "other.ipynb")
    (tmp_path / "in" / "eve").symlink_to(tmp_path)
    assert dict(grade.found(tmp_path / "in")) == {"ada": []}


def test_reports_are_escaped():
    told = {"student": "<b>ada", "points": 0.0, "of": 4, "notes": ["<i>"], "exercises": [
        {"id": "x", "points": 0.0, "of": 4, "tests": [
            {"name": "=1+1", "passed": False, "hint": "It stops with <script>"}]}]}  # fmt: skip
    page = report.page(told)
    assert "<b>ada" not in page and "<script>" not in page and "<i>" not in page
    assert "'=1+1" in report.table(report.rows(told))
