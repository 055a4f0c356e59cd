"""cltutor.claims: a claim holds by its threshold alone, and a notebook's parameters are checked."""

import builtins
import json
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest

from cltutor import claims, notebook, records, runs
from cltutor.errors import UserError


@pytest.fixture
def lesson():
    return claims.begin("99_toy", profile="quick", seed=0, interactive=False)


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """recorded(values): records of notebook 99_toy with a claim "c" of these values."""
    monkeypatch.setattr(records, "folder", lambda: tmp_path)

    def write(values, config=None):
        seeds = [{"claims": [{"name": "c", "value": value}]} for value in values]
        records.write("99_toy.quick", {"profile": "quick", "config": config or {}, "runs": seeds})

    return write


# --- claims --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, at_least, at_most, ok",
    [
        (0.5, 0.5, None, True),
        (0.4999, 0.5, None, False),
        (0.5, None, 0.5, True),
        (0.5001, None, 0.5, False),
        (0.2, 0.18, 0.22, True),
        (0.17, 0.18, 0.22, False),
        (0.23, 0.18, 0.22, False),
        (float("nan"), 0.5, None, False),
        (float("nan"), None, 0.5, False),
        (-1.0, 0, None, False),
        (0.3, {"quick": 0.5, "laptop": 0.1}, None, False),
        (0.3, {"quick": 0.1, "laptop": 0.5}, None, True),
        (0.3, None, {"quick": 0.1}, False),
        (np.float64(0.3), 0.5, None, False),
        (np.float32(0.5), 0.5, 1, True),
    ],
)
def test_a_claim_holds_within_its_threshold(lesson, value, at_least, at_most, ok):
    assert lesson.claim("c", "a sentence", value, at_least=at_least, at_most=at_most) is ok
    (claim,) = lesson.record()["claims"]
    assert claim["ok"] is ok and type(claim["value"]) is float
    assert json.loads(json.dumps(claim))["ok"] is ok


def test_the_sentence_names_the_threshold_of_its_profile():
    for profile, bound in (("quick", 0.5), ("laptop", 0.65), ("paper", 0.65)):
        lesson = claims.begin("99_toy", profile=profile, seed=0, interactive=False)
        lesson.claim("c", "at least {at_least}", 0.6, at_least={"quick": 0.5, "laptop": 0.65})
        (claim,) = lesson.claims
        assert (claim.text, claim.at_least, claim.at_most) == (f"at least {bound}", bound, None)
        assert claim.ok is (profile == "quick")


def test_only_live_claims_decide(lesson):
    lesson.claim("shown", "from the records", 0.1, at_least=0.5, live=False)
    assert runs.holds(lesson.record()) and not lesson.claims[0].ok
    lesson.claim("good", "measured", 0.6, at_least=0.5)
    assert runs.holds(lesson.record())
    lesson.claim("bad", "measured", 0.4, at_least=0.5)
    assert not runs.holds(lesson.record())


def test_setting_keeps_todays_settings(lesson):
    method, stream, cfg = lesson.setting("dgr", replay="exact")
    assert (method, stream.name, cfg.replay, cfg.seed) == ("dgr", "split-digits", "exact", 0)
    assert lesson.record()["config"] == {"dgr": records.settings_of("dgr", "quick")}


# --- the table -----------------------------------------------------------------------------------


def test_table_without_records(lesson, recorded):
    lesson.claim("c", "one", 0.25, at_least=0.5, paper=0.705, source="a paper, table 2")
    lesson.claim("d", "two", 0.75, at_most=0.8, live=False)
    table = lesson.table()
    assert table.columns == ("Claim", "Paper", "Recorded", "Yours", "Holds")
    assert table.rows == [
        ("one", "0.705 (a paper, table 2)", "–", "0.250", "no"),
        ("two", "–", "0.750", "–", "yes"),
    ]
    assert "99_toy, profile quick, seed 0" in table.caption


def test_table_beside_records(lesson, recorded):
    recorded([0.7, 0.8, 0.9])
    lesson.claim("c", "one", 0.25, at_least=0.5)
    lesson.claim("new", "not recorded yet", 0.25, at_least=0.5)
    rows = lesson.table().rows
    # t(2) = 4.303, s = 0.1: 0.8 -+ 4.303 * 0.1 * sqrt(4/3)
    assert rows[0][2] == "0.800 [0.303, 1.297], 3 seeds" and rows[1][2] == "–"
    recorded([0.7, 0.8, 0.9], {"dgr": {"steps": 1}})
    assert lesson.table().rows[0][2] == "0.800 [0.303, 1.297], 3 seeds, earlier settings"


def test_mime_bundle(lesson, recorded):
    lesson.claim("c", "a <b>bold</b> claim", 0.25, at_least=0.5)
    lesson.values = {"a": 0.5}
    bundle = lesson.table()._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain", claims.MIME}
    assert bundle[claims.MIME] == lesson.record() == json.loads(json.dumps(lesson.record()))
    assert list(bundle[claims.MIME]) == ["claims", "values", "config"]
    assert "<table" in bundle["text/html"] and "a &lt;b&gt;bold" in bundle["text/html"]
    caption, line = bundle["text/plain"].splitlines()
    assert caption == lesson.table().caption
    assert line.startswith("no") and "0.250" in line and "bold" in line


# --- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, words",
    [
        ({"profile": "fast"}, "unknown profile 'fast': choose one of quick, laptop, paper"),
        ({"profile": 3}, "unknown profile 3"),
        ({"seed": -1}, "seed=-1 is not a whole number from 0 on"),
        ({"seed": 1.0}, "seed=1.0"),
        ({"seed": True}, "seed=True"),
        ({"seed": "1"}, "seed='1'"),
        ({"interactive": "maybe"}, "interactive='maybe' is neither True nor False"),
        ({"interactive": 1}, "interactive=1"),
    ],
)
def test_bad_parameters(given, words):
    good = {"profile": "quick", "seed": 0, "interactive": True}
    with pytest.raises(UserError, match=words) as raised:
        claims.begin("99_toy", **good | given)
    assert "\n" not in str(raised.value)


def test_interactive_unless_headless(monkeypatch):
    for headless, interactive, expected in (("1", True, False), ("", True, True), ("", False, 0)):
        monkeypatch.setenv("CLTUTOR_HEADLESS", headless)
        lesson = claims.begin("99_toy", profile="quick", seed=3, interactive=interactive)
        assert bool(lesson.interactive) is bool(expected) and lesson.seed == 3


@pytest.fixture
def kernel(monkeypatch):
    """kernel(cell, ...): the cells that IPython has run so far."""

    def has_run(*cells):
        shell = SimpleNamespace(user_ns={"In": ["", *cells]})
        monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)

    return has_run


def test_an_injected_unknown_parameter_is_an_error(kernel):
    good = {"profile": "quick", "seed": 0, "interactive": True}
    kernel('profile = "quick"', '# Parameters\nprofile = "quick"\nseed = 1\n')
    claims.begin("99_toy", **good)
    kernel('profile = "quick"\nfoo = 3', "# Parameters\nseed = 1\nfoo = 1\nbar = 2\n")
    with pytest.raises(UserError, match="unknown parameter bar, foo: there are profile, seed"):
        claims.begin("99_toy", **good)


def test_a_readers_own_cell_is_left_alone(kernel):
    kernel("# Parameters\nimport math\na, b = 1, 2\nmath.x = a\n")
    claims.begin("99_toy", profile="quick", seed=0, interactive=True)


TOY = """
from cltutor import claims
claims.begin("99_toy", profile=profile, seed=seed, interactive=interactive)
"""


def test_an_unknown_parameter_through_papermill(tmp_path):
    """In a real kernel; papermill itself only warns of it."""
    first = nbformat.v4.new_code_cell('profile = "quick"\nseed = 0\ninteractive = True')
    first.metadata["tags"] = ["parameters"]
    new = nbformat.v4.new_notebook(cells=[first, nbformat.v4.new_code_cell(TOY)])
    new.metadata["language_info"] = {"name": "python"}
    path = tmp_path / "99_toy.ipynb"
    nbformat.write(new, path)
    assert notebook.parameters(path) == {"profile": "quick", "seed": 0, "interactive": True}
    with pytest.raises(UserError, match="^unknown parameter foo: there are profile, seed"):
        notebook.execute(path, {"seed": 1, "foo": 1}, tmp_path / "executed.ipynb")
