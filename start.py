"""Set cltutor up in .venv beside this file, then run one of its commands. Standard library only.

    python3 start.py run [options]    execute notebook 01 on the embedded digits
    python3 start.py test [options]   run the tests
    python3 start.py lab [options]    open the notebooks in JupyterLab
    python3 start.py notebooks        execute the notebooks again and store their outputs
    python3 start.py site             build the web site in build/site

Everything runs in this folder. The first call installs the versions of requirements.lock, later
ones start at once. TORCH_INDEX, a package index, says where torch and torchvision come from (such
as PyTorch's CPU-only index). Exit status: that of the command; 2 wrong usage, 3 set-up failed.
"""
# Kept readable by Python 3.6, so that an old interpreter prints a sentence and not a SyntaxError.

import contextlib
import errno
import hashlib
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "cltutor-setup"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
CLTUTOR = BIN / ("cltutor.exe" if os.name == "nt" else "cltutor")

# command -> (extra of pyproject.toml that it needs, what is started)
COMMANDS = {
    "run": ("", [str(CLTUTOR), "run", "01"]),
    "test": ("dev", [str(PYTHON), "-m", "pytest", "-n", "2", "--dist", "worksteal"]),
    "lab": ("", [str(CLTUTOR), "lab"]),
    "notebooks": ("", [str(CLTUTOR), "notebooks"]),
    "site": ("site", [str(PYTHON), str(ROOT / "site" / "build.py")]),
}
EXTRAS = ["", "site", "dev"]
USAGE = "usage: python3 start.py run|test|lab|notebooks|site [options of the command]"


class SetupError(Exception):
    """Set-up cannot go on; the message is one line that says what to do."""


def main(arguments: list) -> int:
    """Set up what the command `arguments[0]` needs, run it, return its exit status."""
    if sys.version_info < (3, 11):  # noqa: UP036 - pip never sees this file
        return _fail(
            f"cltutor needs Python 3.11 or newer, and this is {platform.python_version()}: "
            "install one and call start.py with it"
        )
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        return _fail(
            "PyTorch has no builds for Intel Macs: use another machine, or on Apple "
            "silicon an arm64 Python"
        )
    if not arguments or arguments[0] not in COMMANDS:
        return _fail(USAGE, status=2)
    extra, command = COMMANDS[arguments[0]]
    try:
        with locked(ROOT / ".setup.lock"):
            set_up(extra)
    except SetupError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("set-up interrupted: the same command takes it up again", status=130)
    return pass_on(command + arguments[1:])


def set_up(extra: str) -> None:
    """Make .venv hold the locked versions with `extra`; nothing is done if the stamp says so."""
    version = _version_of_venv()
    # Each extra has all that those before it have.
    enough = EXTRAS[EXTRAS.index(extra) :]
    if version and CLTUTOR.exists():
        if _stamp() in [fingerprint(one, version) for one in enough]:
            return
    if VENV.exists() and not (version and _quiet(PYTHON, "-m", "pip", "--version")):
        _set_aside()
    # Without its stamp an install that is cut short is begun again.
    with contextlib.suppress(FileNotFoundError):
        STAMP.unlink()
    if not VENV.exists():
        if subprocess.call([sys.executable, "-m", "venv", str(VENV)]):
            raise SetupError(
                "Python's venv module failed (see above): install it (Debian, Ubuntu: "
                "apt install python3-venv), then repeat the command"
            )
        version = _version_of_venv()
    install(extra)
    partial = STAMP.with_name(STAMP.name + ".part")
    partial.write_text(fingerprint(extra, version))
    os.replace(str(partial), str(STAMP))


def install(extra: str) -> None:
    """Install the project with `extra` and what it needs; raises SetupError where pip fails."""
    if CLTUTOR.exists():
        print("Bringing .venv up to date ...", flush=True)
    else:
        cuda = sys.platform == "linux" and not os.environ.get("TORCH_INDEX")
        size = "6 GB with the CUDA libraries" if cuda else "without CUDA libraries"
        print(f"Installing PyTorch, JupyterLab and cltutor in .venv (1-2 minutes, {size}) ...")
        sys.stdout.flush()
    torch_index = os.environ.get("TORCH_INDEX")
    if torch_index:
        # First and alone, so that no other index can serve these two.
        _pip("--no-deps", "--index-url", torch_index, "torch", "torchvision")
    _pip("-e", f".[{extra}]" if extra else ".")


def fingerprint(extra: str, version: str) -> str:
    """sha256 of all that decides what an install holds; `version` is that of .venv's Python."""
    parts = [(ROOT / name).read_bytes() for name in ("requirements.lock", "pyproject.toml")]
    # Scripts and the editable install hold the folder: a moved checkout is installed again.
    settings = (version, extra, os.environ.get("TORCH_INDEX", ""), str(ROOT))
    parts += [part.encode() for part in settings]
    return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in parts)).hexdigest()


@contextlib.contextmanager
def locked(path: Path):
    """Hold the lock file `path`, waiting for it if need be; the system frees it when we die."""
    try:
        file = path.open("a")
    except OSError as error:
        raise SetupError(
            f"cannot write {path} ({error.strerror}): make its folder writable"
        ) from error
    with file:
        waited = False
        while not _try_lock(file):
            if not waited:
                print("Another start.py is setting up this folder: waiting for it ...", flush=True)
            waited = True
            time.sleep(0.2)
        yield


def pass_on(command: list) -> int:
    """Run `command` in ROOT and return its exit status (128 + n after signal n)."""
    child = subprocess.Popen(command, cwd=str(ROOT))
    # A terminal sends Ctrl-C to the child as well, and JupyterLab asks before it ends.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    status = child.wait()
    return 128 - status if status < 0 else status


def _try_lock(file) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False
    return True


def _pip(*arguments: str) -> None:
    # The lock constrains and is not itself installed: a CPU-only torch then leaves the CUDA
    # packages out. Pip before 25.3 applies the first name to the build of the project as well,
    # later ones the second. The path is relative because pip splits these variables at spaces.
    lock = {"PIP_CONSTRAINT": "requirements.lock", "PIP_BUILD_CONSTRAINT": "requirements.lock"}
    status = subprocess.call(
        [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments],
        cwd=str(ROOT),
        env=dict(os.environ, **lock),
    )
    if status:
        raise SetupError(
            "pip failed (see above): check the network or proxy, about 6 GB of disk (2 GB with "
            "TORCH_INDEX, PyTorch's CPU-only index), then repeat the command"
        )


def _version_of_venv() -> str:
    """Version of .venv's Python, or "" where it does not run or is too old."""
    code = "import platform, sys; print(platform.python_version() * (sys.version_info >= (3, 11)))"
    try:
        answer = subprocess.run(
            [str(PYTHON), "-I", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return ""
    return "" if answer.returncode else answer.stdout.decode().strip()


def _stamp() -> str:
    try:
        return STAMP.read_text()
    except OSError:
        return ""


def _set_aside() -> None:
    number = 1
    while (ROOT / f".venv.broken-{number}").exists():
        number += 1
    aside = ROOT / f".venv.broken-{number}"
    try:
        VENV.rename(aside)
    except OSError as error:
        raise SetupError(
            ".venv is broken and in use: close what runs in it, delete it, then repeat the command"
        ) from error
    print(f"The Python of .venv does not work: it is now {aside.name}, to be deleted.", flush=True)


def _quiet(*command) -> bool:
    return not subprocess.call(
        [str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _fail(message: str, status: int = 3) -> int:
    print(message, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
