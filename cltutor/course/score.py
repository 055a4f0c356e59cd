"""From plain answers to points: what the student's process cannot reach.

All of this runs in the grader. A right answer is what the reference returns for the same arguments;
a wrong one is compared with what the typical mistakes return, and gets the hint of the first that
gives the same everywhere.
"""

import math
import warnings
from dataclasses import asdict

import numpy as np

from cltutor.course import build
from cltutor.course.limits import Limits
from cltutor.course.runner import decode, encode, plain
from cltutor.course.variant import Variant

RELATIVE, ABSOLUTE = 1e-4, 1e-6  # between 32-bit and 64-bit floats
ENDED = {
    "time": "It took longer than {seconds:g} seconds.",
    "memory": "It used more memory than {memory} MB.",
}
SILENT = "The process ended before it had answered."
STUB = "Not written yet: fill in the function in its cell."


def job(variant: Variant, source: str, cases: dict) -> dict:
    """What the student's process gets: the cell after the imports, and arguments."""
    calls = {test: [[encode(one) for one in call] for call in calls]
             for test, calls in cases.items()}  # fmt: skip
    return {
        "source": f"{build.IMPORTS}\n{source}",
        "function": variant.function,
        "calls": calls,
    }


def score(variant: Variant, cases: dict, answers: list, end: dict, limits: Limits) -> dict:
    """{"id", "points", "of", "tests": [{"name", "passed", "hint"}]} of one exercise."""
    given, error = sorted_out(cases, answers)
    lost = ENDED.get(end["end"], SILENT).format(**asdict(limits))
    if variant.verdicts:
        hints = _by_verdicts(variant, cases, given, error or lost)
    else:
        hints = _by_reference(variant, cases, given, error or lost)
    passed = sum(hint is None for hint in hints.values())
    return {
        "id": variant.id,
        "points": round(variant.points * passed / len(hints), 2),
        "of": variant.points,
        "tests": [{"name": n, "passed": h is None, "hint": h or ""} for n, h in hints.items()],
    }


def nothing(variant: Variant, cases: dict, why: str) -> dict:
    """The score of an exercise that was not run."""
    tests = [{"name": name, "passed": False, "hint": why} for name in cases]
    return {"id": variant.id, "points": 0.0, "of": variant.points, "tests": tests}


def sorted_out(cases: dict, answers: list) -> tuple[dict, str | None]:
    """{(test, call): ("answer", value) or ("error", text)}, the first that came; what stopped all.

    Whoever writes lines of his own writes answers to calls, and nothing else is read.
    """
    found: dict = {}
    for line in answers:
        if "test" not in line and isinstance(line.get("error"), str):
            return {}, _stopped(line["error"])
        test, call = line.get("test"), line.get("call")
        if not isinstance(test, str) or type(call) is not int or (test, call) in found:
            continue
        if test in cases and 0 <= call < len(cases[test]):
            if isinstance(line.get("error"), str):
                found[test, call] = "error", line["error"]
            elif _is_plain(line.get("answer")):
                found[test, call] = "answer", line["answer"]
    return found, None


def same(answer, expected) -> bool:
    """Equal numbers in equal lists; true and false are no numbers."""
    if isinstance(expected, list):
        return (
            isinstance(answer, list)
            and len(answer) == len(expected)
            and all(map(same, answer, expected))
        )
    if isinstance(answer, list) or isinstance(answer, bool) != isinstance(expected, bool):
        return False
    if isinstance(expected, float) and math.isnan(expected):
        return isinstance(answer, float) and math.isnan(answer)
    return math.isclose(answer, expected, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _by_reference(variant: Variant, cases: dict, given: dict, lost: str) -> dict:
    expected = outcomes(variant.reference(), cases)
    hints = {test: _first_fault(test, calls, given, expected, lost)
             for test, calls in cases.items()}  # fmt: skip
    if any(hints.values()):
        mistake = _mistake(variant, cases, given)
        if mistake:
            hints = {test: hint and mistake for test, hint in hints.items()}
    return hints


def _by_verdicts(variant: Variant, cases: dict, given: dict, lost: str) -> dict:
    hints, whole = {}, {}
    for test, calls in cases.items():
        told = [given.get((test, n), ("error", "")) for n in range(len(calls))]
        error = next((text for kind, text in told if kind == "error"), None)
        if error is not None:
            hints[test] = _stopped(error) if error else lost
        else:
            whole[test] = [(call, one) for call, (_, one) in zip(calls, told, strict=True)]
    judged = variant.verdicts(whole)
    return {test: hints[test] if test in hints else judged[test] for test in cases}


def _first_fault(test: str, calls: list, given: dict, expected: dict, lost: str) -> str | None:
    for n in range(len(calls)):
        if (test, n) not in given:
            return lost
        kind, value = given[test, n]
        right = expected[test, n][1]
        if kind == "error":
            return _stopped(value)
        if isinstance(right, list) != isinstance(value, list):
            return f"Return {len(right)} numbers." if isinstance(right, list) else ONE
        if isinstance(right, list) and len(right) != len(value):
            return f"Return {len(right)} numbers; {len(value)} came back."
        if not same(value, right):
            return f"Not the right value in the test “{test}”."
    return None


ONE = "Return one number, not several."


def _mistake(variant: Variant, cases: dict, given: dict) -> str | None:
    """The hint of the first typical mistake that answers every call as was answered."""
    asked = [(test, n) for test, calls in cases.items() for n in range(len(calls))]
    if not all(one in given for one in asked):
        return None
    for hint, function in variant.wrong():
        made = outcomes(function, cases)
        if all(_alike(given[one], made[one]) for one in asked):
            return hint
    return None


def _alike(given: tuple, made: tuple) -> bool:
    return given[0] == made[0] and (given[0] == "error" or same(given[1], made[1]))


def outcomes(function, cases: dict) -> dict:
    """{(test, call): ("answer", value) or ("error", "")} of a function of the kit's own."""
    found = {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for test, calls in cases.items():
            for n, call in enumerate(calls):
                try:
                    value = plain(function(*[decode(encode(one)) for one in call]))
                    found[test, n] = "answer", value
                except Exception:  # a mistake may well stop
                    found[test, n] = "error", ""
    return found


def _stopped(error: str) -> str:
    return STUB if error == "not written yet" else f"It stops with {error[:200]}"


def _is_plain(value, level: int = 0) -> bool:
    if isinstance(value, list):
        return level < 6 and all(_is_plain(one, level + 1) for one in value)
    return type(value) in (bool, int, float)
