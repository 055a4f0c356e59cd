"""JupyterLab and chromium, for test_browser.py; as a script, the README's pictures of a panel.

python -m tests.browser
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "01_vae_generative_replay.ipynb"
LIMIT = 120_000  # ms: the longest wait for anything on a busy machine
QUIET = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false", "checkForUpdates": False,
    },
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}  # fmt: skip
DARK = {"@jupyterlab/apputils-extension:themes": {"theme": "JupyterLab Dark"}}
RUN_ALL = "jupyterapp.commands.execute('notebook:run-all-cells')"
IDLE = """() => {
  const session = jupyterapp.shell.currentWidget?.sessionContext;
  return session?.isReady && session.session?.kernel?.status === 'idle';
}"""


def chromium() -> str | None:
    """The browser's path: that of CHROMIUM, or the system's."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


@contextlib.contextmanager
def jupyter(folder: Path, dark: bool = False):
    """A JupyterLab of its own on `folder`, with settings in `folder`; gives its address(path)."""
    home, port, token = folder / "home", free_port(), secrets.token_hex(16)
    settings = home / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(QUIET | (DARK if dark else {})))
    places = {"HOME": home, "JUPYTER_CONFIG_DIR": home, "IPYTHONDIR": home / "ipython"}
    places |= {f"JUPYTER_{name}_DIR": home / name.lower() for name in ("DATA", "RUNTIME")}
    places |= {f"JUPYTERLAB_{name}_DIR": home / name for name in ("SETTINGS", "WORKSPACES")}
    kept = {k: v for k, v in os.environ.items() if k not in ("CLTUTOR_HEADLESS", "PYTEST_VERSION")}
    env = kept | {name: str(path) for name, path in places.items()}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH", ""))))
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root",
        "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}",
        "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        status = f"http://127.0.0.1:{port}/api/status?token={token}"
        until = time.monotonic() + LIMIT / 1000
        while not answers(status):
            log = (folder / "server.log").read_text()
            assert server.poll() is None and time.monotonic() < until, log[-3000:]
            time.sleep(0.05)
        yield lambda path: f"http://127.0.0.1:{port}/{path}?reset&token={token}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def free_port() -> int:
    """A port of this machine's own address that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address: str) -> bool:
    """Whether a server is up."""
    try:
        with urllib.request.urlopen(address, timeout=10):
            return True
    except OSError:
        return False


def short(folder: Path, name: str) -> Path:
    """A notebook with nothing but a panel, in `folder`."""
    cells = [
        "from cltutor import claims, panel\n"
        "lesson = claims.begin('01_vae_generative_replay', profile='quick', seed=0, "
        "interactive=True)",
        panel_cell().source,
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"
