"""JupyterLab and chromium, for test_browser.py; as a script, the README's pictures of a panel.

python -m tests.browser
"""

import contextlib
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "01_vae_generative_replay.ipynb"
LIMIT = 120_000  # ms: the longest wait for anything on a busy machine
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false", "checkForUpdates": False,
    },
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}  # fmt: skip
RUN_ALL = "jupyterapp.commands.execute('notebook:run-all-cells')"
IDLE = """() => {
  const session = jupyterapp.shell.currentWidget?.sessionContext;
  return session?.isReady && session.session?.kernel?.status === 'idle';
}"""


def chromium() -> str | None:
    """The browser's path: that of CHROMIUM, or the system's."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


@contextlib.contextmanager
def jupyter(folder: Path):
    """A JupyterLab of its own on `folder`, with settings in `folder`; gives its address(path)."""
    home, port, token = folder / "home", free_port(), secrets.token_hex(16)
    settings = home / "labconfig" / "default_setting_overrides.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(SETTINGS))
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


@contextlib.contextmanager
def opened(browser, address, notebook: Path, **window):
    """The notebook in a window of its own, its kernel ready; gives (page, what was complained)."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **window)
    page, complaints = context.new_page(), []
    page.set_default_timeout(LIMIT)
    home = address("").split("?")[0]

    def heard(message):
        if message.type in ("error", "warning"):
            complaints.append(f"{message.type}: {message.text}")

    def requested(request):
        if not request.url.startswith((home, home.replace("http", "ws"), "data:", "blob:")):
            complaints.append(f"request to {request.url}")

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("request", requested)
    try:
        page.goto(address(f"lab/workspaces/{secrets.token_hex(4)}/tree/{notebook.name}"))
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        page.wait_for_function(IDLE)
        yield page, complaints
    except BaseException as error:
        seen = notebook.with_suffix(".png")
        page.screenshot(path=seen)
        error.add_note(f"The page is in {seen}, the server's log beside it; it said {complaints}.")
        raise
    finally:
        context.close()


def copy(folder: Path, name: str, ids=(), above: str = "", code: str = "", bare=False) -> Path:
    """A copy of notebook 01, or of the cells `ids` of it, with a cell `code` above another.

    `bare`: without the metadata that keep JupyterLab from deleting the panel's cell.

    JupyterLab would mark the original as changed.
    """
    notebook = nbformat.read(NOTEBOOK, 4)
    notebook.cells = [cell for cell in notebook.cells if not ids or cell.id in ids]
    for cell in notebook.cells if bare else ():
        cell.metadata = {}
    if above:
        at = [cell.id for cell in notebook.cells].index(above)
        notebook.cells.insert(at, nbformat.v4.new_code_cell(code))
    nbformat.write(notebook, folder / name)
    return folder / name


def theme(page, name: str) -> None:
    """Switch JupyterLab to the theme "Light" or "Dark"."""
    change = f"jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {name}'}})"
    page.evaluate(change)
    light = "true" if name == "Light" else "false"
    page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")


def press(panel, name: str) -> None:
    """Click the button with exactly this name."""
    panel.get_by_role("button", name=name, exact=True).click()


def pictures() -> None:
    """Write the README's pictures of a panel with three runs: notebooks/img/panel-*.png."""
    from playwright.sync_api import expect, sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        notebook = copy(folder, "panel.ipynb", ("parameters", "begin", "panel"))
        chrome = playwright.chromium.launch(executable_path=chromium())
        with (
            jupyter(folder) as address,
            opened(chrome, address, notebook, device_scale_factor=2) as (page, _),
        ):
            page.set_viewport_size({"width": 1280, "height": 1500})
            page.evaluate(RUN_ALL)
            panel = page.locator(".cltutor-panel")
            for choice, told in (("none", "=none"), ("noise", "=noise"), ("generative", ": dgr")):
                panel.get_by_label("replay", exact=True).select_option(choice)
                press(panel, "Start")
                expect(panel.get_by_text("Done:")).to_contain_text(told, timeout=LIMIT)
            for name in ("Light", "Dark"):
                theme(page, name)
                page.wait_for_timeout(1000)
                picture = Image.open(io.BytesIO(panel.screenshot())).convert("RGB").quantize(128)
                picture.save(
                    ROOT / "notebooks" / "img" / f"panel-{name.lower()}.png", optimize=True
                )
        chrome.close()


if __name__ == "__main__":
    pictures()
