"""The panel of notebook 01 in JupyterLab and a real browser, used as a student uses it."""

import re

import browser
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

expect.set_options(timeout=browser.LIMIT)
FOCUSED = """() => {
  const one = document.activeElement;
  if (!one.closest('.cltutor-panel')) return null;
  return one.getAttribute('aria-label') ?? (one.labels?.[0] ?? one).textContent;
}"""
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


def few(steps: int) -> str:
    """Code of a cell that makes the runs of notebook 01 short."""
    return (
        "from cltutor.methods import dgr, finetune, joint\n"
        "for module in (dgr, finetune, joint):\n"
        f"    module.PROFILES['quick'] = 'split-digits', dict(steps={steps})"
    )


@pytest.fixture(scope="module")
def chromium(chromium_path):
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=chromium_path)
        yield one
        one.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def address(folder):
    with browser.jupyter(folder) as one:
        yield one


def status(panel):
    return panel.get_by_role("status").first


def steps(panel) -> tuple[str, float]:
    """The step counter, and the share of the run that is done."""
    bar = panel.get_by_role("progressbar")
    return panel.locator(".cltutor-progress span").inner_text(), float(bar.get_attribute("value"))


def violations(page) -> list[str]:
    """What axe finds in the panel."""
    options = {"runOnly": {"type": "tag", "values": RULES}}
    found = Axe().run(page, ".cltutor-panel", options).response
    assert len(found["passes"]) > 10
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found["violations"]]


def test_a_run_is_started_stopped_resumed_and_compared(chromium, folder, address):
    notebook = browser.copy(folder, "whole.ipynb", above="fits", code=few(100))
    with browser.opened(chromium, address, notebook) as (page, complaints):
        page.evaluate(browser.RUN_ALL)
        panel = page.locator(".cltutor-panel")
        expect(status(panel)).to_contain_text("Ready")
        panel.get_by_role("slider", name="steps").press("ArrowRight")
        browser.press(panel, "Start")
        expect(panel.locator(".cltutor-progress")).to_contain_text("step ")
        before = steps(panel)
        expect(panel.locator(".cltutor-progress")).not_to_contain_text(before[0])
        browser.press(panel, "Stop")
        expect(status(panel)).to_contain_text("Stopped")
        stopped = steps(panel)
        assert before[1] <= stopped[1] < 1 and stopped[0] in status(panel).inner_text()
        page.wait_for_timeout(1000)
        assert steps(panel) == stopped
        browser.press(panel, "Resume")
        expect(status(panel)).to_contain_text("Done: steps=200")
        assert steps(panel)[1] == 1
        panel.get_by_label("replay", exact=True).select_option("none")
        browser.press(panel, "Start")
        expect(status(panel)).to_contain_text("Done: replay=none, steps=200")
        means = panel.get_by_role("img", name=re.compile("^Mean accuracy"))
        assert means.locator("path.curve").count() == 2
        assert "Run 1: steps=200" in means.get_attribute("aria-label")
        assert panel.get_by_role("listbox", name="finished runs").locator("option").count() == 2
        assert panel.get_by_role("table", name="Finished runs").get_by_role("row").count() == 3
        panel.get_by_label("show the numbers", exact=True).check()
        expect(panel.get_by_role("table")).to_have_count(4)
        assert violations(page) == []
        assert page.locator(".jp-Dialog").count() == 0 and complaints == []


def test_everything_by_keyboard_light_and_dark(chromium, folder, address):
    ids = ("parameters", "begin", "panel")
    notebook = browser.copy(folder, "keys.ipynb", ids, "panel", few(200), bare=True)
    with browser.opened(chromium, address, notebook) as (page, complaints):
        page.evaluate(browser.RUN_ALL)
        panel, cells = page.locator(".cltutor-panel"), page.locator(".jp-CodeCell")
        expect(status(panel)).to_contain_text("Ready")

        def tab_to(name: str, most: int = 20) -> list[str]:
            """Press Tab until the focus is there; what was passed within the panel."""
            passed = []
            for _ in range(most):
                page.keyboard.press("Tab")
                at = page.evaluate(FOCUSED)
                passed += [at] if at else []
                if at == name:
                    return passed
            raise AssertionError(f"no {name} in {passed}")

        cells.nth(3).locator(".jp-InputPrompt").click()
        controls = ["replay", "labels", "weights", "replay_vae", "latent", "steps"]
        assert tab_to("Start") == [*controls, "train from the beginning", "Start"]
        steps_of = panel.get_by_role("slider", name="steps")
        assert steps_of.get_attribute("aria-valuetext") == "200"
        assert violations(page) == []
        page.keyboard.press("Space")
        expect(status(panel)).to_contain_text("Running: dgr")
        assert page.evaluate(FOCUSED) == "Stop"
        page.keyboard.press("Space")
        expect(status(panel)).to_contain_text("Stopped")
        assert page.evaluate(FOCUSED) == "Start"
        browser.theme(page, "Dark")
        assert violations(page) == []
        tab_to("Resume")
        page.keyboard.press("Space")
        expect(status(panel)).to_contain_text("Done")
        assert page.evaluate(FOCUSED) == "Start"
        # On its way around, Space unticks; arrows move a slider and choose without leaving.
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Space")
        expect(panel.get_by_label("train from the beginning", exact=True)).not_to_be_checked()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("ArrowLeft")
        expect(steps_of).to_have_attribute("aria-valuetext", "100")
        page.keyboard.press("Home")
        expect(steps_of).to_have_attribute("aria-valuetext", "1")
        tab_to("Start")
        page.keyboard.press("Space")
        expect(status(panel)).to_contain_text("Done: steps=1")
        assert tab_to("show the numbers")[-4:] == [
            "folder", "Remove run", "Export runs", "show the numbers",
        ]  # fmt: skip
        page.keyboard.press("Space")
        expect(panel.get_by_role("table")).to_have_count(4)
        # JupyterLab's own keys would delete the cell, change its kind, add another, leave it.
        for key in ("d", "d", "x", "m", "a", "b", "ArrowUp", "Shift+Enter"):
            page.keyboard.press(key)
        page.wait_for_timeout(500)
        assert cells.count() == 4 and panel.count() == 1
        assert page.evaluate(FOCUSED) == "show the numbers"
        assert violations(page) == []
        assert page.locator(".jp-Dialog").count() == 0 and complaints == []
