"""A panel in a real kernel: what a front end would send and see, without a front end.

Runs on any ipykernel from 6.29 on; where they differ, the test says how.
"""

import re
import time
from importlib import metadata

import pytest
from jupyter_client.manager import start_new_kernel

SUBSHELLS = int(metadata.version("ipykernel").split(".")[0]) >= 7
LIMIT = 60  # seconds for anything: the machine may be busy
BEGIN = """
from cltutor.methods import finetune
finetune.PROFILES["quick"] = "split-digits", dict(steps=20)
from cltutor.panel.view import Panel
one = Panel("finetune", ("steps",))
one
"""


class Page:
    """Stands in for JupyterLab: keeps the widgets' states, sends what a click sends."""

    def __init__(self, folder):
        self.manager, self.client = start_new_kernel(kernel_name="python3", cwd=str(folder))
        self.states, self.printed, self.done, self.subshell = {}, [], {}, None

    def see(self, until) -> None:
        """Read what the kernel publishes until `until()` holds."""
        end = time.monotonic() + LIMIT
        while not until():
            assert time.monotonic() < end, (self.texts(), self.printed)
            if self.client.iopub_channel.msg_ready():
                self._take(self.client.get_iopub_msg(timeout=LIMIT))
            else:
                time.sleep(0.005)

    def _take(self, message: dict) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "comm_open":
            self.states[content["comm_id"]] = dict(content["data"]["state"])
        elif kind == "comm_msg" and content["data"].get("method") == "update":
            self.states[content["comm_id"]] |= content["data"]["state"]
        elif kind in ("stream", "error"):
            self.printed.append(content)
        elif kind == "status" and content["execution_state"] == "idle":
            self.done[message["parent_header"].get("msg_id")] = True

    def execute(self, code: str, wait: bool = True) -> str:
        """Run a cell; its id, which is in `done` when it is over."""
        cell = self.client.execute(code)
        if wait:
            self.see(lambda: cell in self.done)
        return cell

    def find(self, description: str) -> str:
        """The id of the widget with this description."""
        found = [key for key, state in self.states.items() if state.get("description") in
                 description.split("|")]  # fmt: skip
        assert len(found) == 1, found
        return found[0]

    def texts(self) -> str:
        """All that HTML widgets say."""
        pages = [s["value"] for s in self.states.values() if s.get("_view_name") == "HTMLView"]
        return re.sub(r"<style>.*?</style>|<[^>]*>", " ", " ".join(pages), flags=re.S)

    def send(self, comm: str, data: dict) -> None:
        """A message of the front end, to the subshell that JupyterLab would have made."""
        message = self.client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        if self.subshell:
            message["header"]["subshell_id"] = self.subshell
        self.client.shell_channel.send(message)

    def click(self, description: str) -> None:
        self.send(self.find(description), {"method": "custom", "content": {"event": "click"}})

    def set(self, description: str, **state) -> None:
        self.send(self.find(description), {"method": "update", "state": state, "buffer_paths": []})

    def open_subshell(self) -> None:
        message = self.client.session.msg("create_subshell_request", {})
        self.client.control_channel.send(message)
        reply = self.client.get_control_msg(timeout=LIMIT)
        self.subshell = reply["content"]["subshell_id"]

    def says(self, words: str):
        return lambda: words in self.texts()


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLTUTOR_CACHE", str(folder / "cache"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.delenv("CLTUTOR_HEADLESS")
        page = Page(folder)
    yield page
    page.client.stop_channels()
    page.manager.shutdown_kernel(now=True)


@pytest.fixture
def page(kernel):
    """A panel of the test's own in the kernel of all."""
    kernel.states.clear(), kernel.printed.clear()
    kernel.execute(BEGIN)
    kernel.see(kernel.says("Ready."))
    yield kernel
    kernel.execute("one.close()")


def steps(page: Page, value: str) -> None:
    """Move the slider."""
    labels = page.states[page.find("steps")]["_options_labels"]
    page.set("steps", index=labels.index(value))


def test_clicks_start_stop_and_resume_while_cells_run(page, tmp_path):
    steps(page, "100,000")
    page.click("Start|Stop")
    page.see(page.says("Running: steps=100,000."))
    page.see(page.says("step "))
    # Another cell executes while the run goes on.
    page.execute("answer = 6 * 7; assert one.session.state == 'running'")
    assert page.states[page.find("Start|Stop")]["description"] == "Stop"
    page.click("Start|Stop")
    page.see(page.says("Stopped in experience k = 0"))
    stopped = re.search(r"Stopped in experience k = 0, step ([\d,]+) of 100,000", page.texts())[1]
    page.execute(f"assert one.session.snapshot.step == {stopped.replace(',', '')}")
    assert page.states[page.find("Resume")]["disabled"] is False
    page.click("Resume")
    page.see(page.says("Running: steps=100,000."))
    page.see(lambda: f"step {stopped} of" not in page.texts())
    page.click("Start|Stop")
    page.see(page.says("Stopped in experience k = 0"))
    # A shorter one to its end, and a second; what either printed would be in somebody's cell.
    steps(page, "5")
    page.click("Start|Stop")
    page.see(page.says("Done: steps=5."))
    steps(page, "10")
    page.click("Start|Stop")
    page.see(page.says("Done: steps=10."))
    page.see(lambda: "1: steps=5" in page.texts() and "2: steps=10" in page.texts())
    # An error of the method stays in the panel.
    page.execute("finetune.run, run = lambda *a, **o: iter([{}['<&>']]), finetune.run")
    page.click("Start|Stop")
    page.see(page.says("Failed: KeyError: &#x27;&lt;&amp;&gt;&#x27;."))
    page.execute("import threading; finetune.run = run; one.session.wait()")
    page.execute("assert 'cltutor' not in [thread.name for thread in threading.enumerate()]")
    assert page.printed == []


def test_stop_while_a_cell_is_busy(page, tmp_path):
    """With subshells Stop answers at once; before them, as the panel says, after the cell."""
    if SUBSHELLS:
        page.open_subshell()
    steps(page, "100,000")
    page.click("Start|Stop")
    page.see(page.says("Running: steps=100,000."))
    page.see(page.says("step "))
    busy = page.execute(
        f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go on')!r}): time.sleep(0.02)",
        wait=False,
    )
    page.click("Start|Stop")
    if SUBSHELLS:
        page.see(page.says("Stopped in experience k = 0"))
        assert busy not in page.done
        (tmp_path / "go on").touch()
        page.see(lambda: busy in page.done)
    else:
        (tmp_path / "go on").touch()
        page.see(page.says("Stopped in experience k = 0"))
        assert busy in page.done
    assert page.printed == []
