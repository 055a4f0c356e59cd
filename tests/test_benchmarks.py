"""The benchmarks on tiny sizes: turns, ratios, the page that tells them; peers that are absent."""

import platform
import time
from dataclasses import replace

import pytest
import torch

from benchmarks import all as benchmark
from benchmarks import dgr, peers, report
from benchmarks.common import in_turn, now, product_rate, ratios, seconds, spread
from benchmarks.report import Found, Row

TINY = peers.Size("8x8 digits", "split-digits", "quick", 128, 1, 64, 40)
METHODS = pytest.mark.parametrize("method", peers.TITLES)


def test_works_take_turns_and_the_first_round_does_not_count():
    called = []

    def work(name: str):
        return lambda n: called.append((name, n)) or 10.0 * n

    assert in_turn({"a": work("a"), "b": work("b")}, 2) == {"a": [10, 20], "b": [10, 20]}
    assert called == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_ratios_are_of_neighbours():
    """Medians of the times would give 3; the median of the ratios is 2."""
    a, b = [2.0, 9.0, 6.0], [1.0, 1.0, 3.0]
    assert ratios(a, b) == [2.0, 9.0, 2.0] and spread(ratios(a, b)) == "2 (2 to 9)"
    with pytest.raises(ValueError):
        ratios(a, b[:2])


def test_a_row_says_whether_the_prediction_came_true():
    row = Row("x by y", [0.25, 0.5, 0.375], [0.125] * 3, "a step", 25, at_least=3)
    assert row.cells() == ("x by y", "3 (2 to 4)", "at least 3: yes", "15 ms by 5 ms a step")
    assert replace(row, at_least=3.1).cells()[2] == "at least 3.1: no"
    assert replace(row, at_least=None, at_most=2.9).cells()[2] == "at most 2.9: no"
    assert replace(row, at_least=None, at_most=3).cells()[2] == "at most 3: yes"
    assert replace(row, at_least=None).cells()[2] == "–"


def test_with_one_thread_the_clock_stands_still_while_others_work():
    assert torch.get_num_threads() == 1
    assert seconds(lambda: time.sleep(0.2)) < 0.1
    start = now()
    assert seconds(lambda: sum(range(10**6))) > 0 and now() > start


def test_the_matrix_product_has_a_rate():
    assert 1e6 < product_rate("cpu", torch.float32, sizes=(64,)) < 1e15


def test_the_parts_of_a_step_add_up():
    spent, parts, operations = dgr.step("cpu", "float32", 1)
    assert sum(parts.values()) == pytest.approx(spent) and min(parts.values()) > 0
    assert 1e9 < operations < 1e10


@METHODS
def test_our_side_takes_the_steps_that_it_is_told(method):
    cfg, stream = TINY.configure(method, 3), TINY.load(3)
    assert {len(exp.y) for exp in stream} == {128} and cfg.seed == 3
    assert cfg.steps == (1 if method == "gdumb" else 2)
    run = peers.ours(method, stream, cfg)
    assert set(run.steps.values()) == {5 * cfg.steps} and 0 <= run.accuracy <= 1
    assert set(run.steps) == {"solver", "generator"} if method == "dgr" else {"solver"}
    assert run.seconds > 0 and (run.rest > 0) == (method == "ewc")


def fake(steps: int, took: float, rest: float = 0.0):
    """A trainer that only says so."""
    return lambda *setting: peers.Trained(took, rest, {"solver": steps}, 0.5)


def test_comparison(monkeypatch):
    sides = {"the kit": fake(10, 2.0, 4.0), "Avalanche": fake(10, 3.0, 6.4)}
    monkeypatch.setattr(peers, "sides", lambda method, size: sides)
    found = peers.beside_avalanche("ewc", TINY, 2)
    whole, importances = (row.cells() for row in found.rows)
    assert whole == (
        "EWC, 8x8 digits: Avalanche by the kit",
        *("1.5 (1.5 to 1.5)", "–", "300 ms by 200 ms a step"),
    )
    # 6.4 s for 128 images of 5 experiences, 4 s for 40.
    assert importances[1:] == ("0.5 (0.5 to 0.5)", "–", "10 ms by 20 ms an image")
    assert "10 of the solver" in found.notes[0] and "Avalanche 0.5 (0.5" in found.notes[0]
    (row,) = peers.beside_avalanche("dgr", TINY, 1).rows
    assert row.cells()[2] == "at least 1.8: no"


def test_unequal_numbers_of_steps_end_the_comparison(monkeypatch):
    sides = {"the kit": fake(10, 1.0), "Avalanche": fake(11, 1.0)}
    monkeypatch.setattr(peers, "sides", lambda method, size: sides)
    with pytest.raises(SystemExit, match="different numbers of steps"):
        peers.beside_avalanche("gdumb", TINY, 1)


def test_passes_can_be_fewer_but_not_none(monkeypatch):
    seen = []

    def note(method, size, repeats):
        seen.append(size.passes)
        return Found()

    monkeypatch.setattr(peers, "SIZES", (replace(TINY, passes=4),))
    monkeypatch.setattr(peers, "beside_avalanche", note)
    for shorten in (1, 2, 9):
        peers.part("dgr", shorten, 1)
    assert seen == [4, 2, 1]


def test_data_that_are_not_there_leave_a_line(monkeypatch):
    lost = replace(TINY, name="lost", stream="no-such-stream")
    monkeypatch.setattr(peers, "SIZES", (lost,))
    found = peers.part("dgr", 1, 1)
    assert found.rows == [] and found.notes[0].startswith("DGR on lost is left out. ")
    assert "no-such-stream" in found.notes[0]


@pytest.fixture
def without_peers(monkeypatch):
    """No peer is installed."""
    needs = {name: ("no_such_module", "pip install it") for name in benchmark.NEEDS}
    monkeypatch.setattr(benchmark, "NEEDS", needs)


def test_absent_peers_are_told(without_peers, tmp_path, capsys):
    benchmark.main(["--parts", *benchmark.NEEDS, "--out", str(tmp_path)])
    lines = [
        f"The part {name} is left out: there is no no_such_module (pip install it)."
        for name in ("dgr", "ewc", "gdumb", "ddim")
    ]
    assert capsys.readouterr().out.splitlines() == lines
    assert [path.name for path in tmp_path.iterdir()] == ["results.md"]
    wanted = f"Not measured yet: `python benchmarks/all.py --parts {' '.join(report.PARTS)}`."
    assert wanted in (tmp_path / "results.md").read_text(encoding="utf-8")


def test_the_page_holds_what_every_part_found(without_peers, monkeypatch, tmp_path, capsys):
    def found(n: int):
        row = Row("x by y", [4.0 * n], [2.0], "a run")
        return lambda repeats: Found([row], [("what", f"{n} s", "6 s")], [f"so it is {repeats}"])

    def page(n: int, *arguments: str) -> str:
        work = dict.fromkeys(report.PARTS, found(n))
        monkeypatch.setattr(benchmark, "works", lambda shorten: work)
        benchmark.main([*arguments, "--out", str(tmp_path)])
        return (tmp_path / "results.md").read_text(encoding="utf-8")

    first, count = page(1, "--repeats", "3"), len(report.PARTS) - len(benchmark.NEEDS)
    assert "Not measured yet: `python benchmarks/all.py --parts dgr ewc gdumb ddim`." in first
    assert first.count("| x by y | 2 (2 to 2) | – | 4e+03 ms by 2e+03 ms a run |") == count == 3
    assert first.count("| what | 1 s | 6 s |") == first.count("- so it is 3") == count
    assert "so it is 3" in capsys.readouterr().out
    assert first.endswith(report.PEERS.read_text(encoding="utf-8"))
    assert "1 thread of torch" in first and platform.node() not in first
    last = page(2, "--parts", "rate")
    assert last.count("| x by y | 2 (2") == count - 1 and last.count("| x by y | 4 (4") == 1
    assert last.index("| `rate` |") < last.index("| `figure` |"), "in the order of the parts"


@pytest.mark.parametrize("arguments", [["--shorten", "0"], ["--parts", "no"], ["--out", "no/no"]])
def test_wrong_input_is_told(without_peers, capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        benchmark.main(arguments)
    assert ended.value.code == 2 and arguments[1] in capsys.readouterr().err


def test_the_results_are_what_the_command_wrote():
    """The page is that of the kept parts and of peers.md, and says which parts are missing."""
    kept = {path.stem for path in (benchmark.HERE / "results").glob("*")}
    assert kept and kept <= set(report.PARTS) == set(benchmark.works(1))
    page = (benchmark.HERE / "results.md").read_text(encoding="utf-8")
    assert page == report.page(benchmark.HERE)


def test_pictures_are_found_in_cells():
    shown = {"outputs": [{"data": {"text/html": "<p>1</p>"}}, {"data": {"text/html": "<img >"}}]}
    assert benchmark.shows_a_figure(shown) and not benchmark.shows_a_figure({"outputs": []})
    assert not benchmark.shows_a_figure({"outputs": shown["outputs"][:1]})


def test_both_samplers_draw_the_same():
    pytest.importorskip("diffusers")
    from benchmarks.diffusion import samplers

    spent = samplers(2, 1)
    assert {"ours", "diffusers"} < set(spent) and all(len(times) == 1 for times in spent.values())
    with pytest.raises(SystemExit, match="choose --steps"):
        samplers(7, 1)


@METHODS
def test_beside_avalanche(method):
    """Where it is installed: every side takes the same steps, else this raises."""
    pytest.importorskip("avalanche")
    found = peers.beside_avalanche(method, TINY, 1)
    middles = [row.top[0] / row.bottom[0] for row in found.rows]
    assert len(found.notes) == 1 and all(middle > 0 for middle in middles)
    assert len(middles) == {"dgr": 3, "ewc": 2, "gdumb": 1}[method]
