"""Claims: sentences with a threshold that an author wrote, beside the value just measured.

A claim holds if its value lies within its threshold, and nothing else decides. The paper's number
and the recorded seeds stand beside it as evidence.
"""

import ast
import os
from dataclasses import asdict, dataclass, field

import torch

from cltutor import figures, recipe, records
from cltutor.errors import UserError

PROFILES = ("quick", "laptop", "paper")
MIME = "application/vnd.cltutor.claims+json"


@dataclass(frozen=True)
class Claim:
    """One sentence. `live`: measured in this run; else read from recorded runs, not asserted."""

    name: str
    text: str
    value: float
    at_least: float | None
    at_most: float | None
    ok: bool
    live: bool
    paper: float | None
    source: str


@dataclass
class Lesson:
    """One run of a notebook: its parameters, its claims, its values."""

    name: str
    profile: str
    seed: int
    interactive: bool
    claims: list[Claim] = field(default_factory=list)
    values: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)
    presets: dict = field(default_factory=dict)

    def setting(self, method: str, **changes) -> tuple:
        """(method, stream, cfg) of a method in this run's profile and seed, for `fit_many`.

        `changes` as for `recipe.setting`; of a method, one preset is used in a lesson.
        """
        preset = changes.get("preset")
        self.config[method] = records.settings_of(method, self.profile, preset)
        if preset:
            self.presets[method] = preset
        return recipe.setting(method, self.profile, self.seed, **changes)

    def claim(
        self,
        name: str,
        text: str,
        value: float,
        *,
        at_least: float | dict | None = None,
        at_most: float | dict | None = None,
        paper: float | None = None,
        source: str = "",
        live: bool = True,
    ) -> bool:
        """Add a claim; True if it holds.

        Args:
            name: short and unique in the notebook.
            text: the sentence; "{at_least}" and "{at_most}" in it become the thresholds.
            at_least, at_most: numbers, or {profile: number}; a profile that is not named takes
                the number of the one before it (quick, laptop, paper).
            paper, source: the published number and where it stands.
            live: False if `value` comes from the recorded runs; then it is shown, not asserted.
        """
        low, high = self._threshold(at_least), self._threshold(at_most)
        value = float(value)
        ok = (low is None or low <= value) and (high is None or value <= high)
        text = text.format(at_least=low, at_most=high)
        self.claims.append(Claim(name, text, value, low, high, ok, live, paper, source))
        return ok

    def _threshold(self, bound):
        if not isinstance(bound, dict):
            return bound
        up_to_here = PROFILES[: PROFILES.index(self.profile) + 1]
        return next((bound[name] for name in reversed(up_to_here) if name in bound), None)

    def table(self) -> "ClaimsTable":
        """The claims of this run: the paper's number, the recorded seeds, your value."""
        return ClaimsTable(self)

    def record(self) -> dict:
        """Claims, values and settings as in result.json."""
        claims = [asdict(claim) for claim in self.claims]
        found = {"claims": claims, "values": self.values, "config": self.config}
        return found | ({"presets": self.presets} if self.presets else {})


def begin(name: str, *, profile: str, seed: int, interactive: bool) -> Lesson:
    """Check the notebook's parameters and start collecting claims.

    One torch thread from here on, so that the same seed gives the same numbers on every machine of
    a kind.

    Raises:
        UserError: an unknown profile, an ill-typed value, or an injected parameter that the
            notebook does not have.
    """
    if profile not in PROFILES:
        raise UserError(f"unknown profile {profile!r}: choose one of {', '.join(PROFILES)}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed={seed!r} is not a whole number from 0 on.")
    if not isinstance(interactive, bool):
        raise UserError(f"interactive={interactive!r} is neither True nor False.")
    unknown = _injected() - {"profile", "seed", "interactive"}
    if unknown:
        names = ", ".join(sorted(unknown))
        raise UserError(f"unknown parameter {names}: there are profile, seed and interactive.")
    torch.set_num_threads(1)
    return Lesson(name, profile, seed, interactive and not os.environ.get("CLTUTOR_HEADLESS"))


def _injected() -> set[str]:
    """Names set by the cell that papermill inserts; papermill itself only warns of unknown ones."""
    try:
        cells = get_ipython().user_ns["In"]  # type: ignore[name-defined]
    except NameError:
        return set()
    trees = [ast.parse(cell) for cell in cells if cell.startswith("# Parameters\n")]
    # papermill writes nothing but plain assignments; a reader's own cell may start like that too.
    nodes = [node for tree in trees for node in tree.body if isinstance(node, ast.Assign)]
    targets = [target for node in nodes for target in node.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}


class ClaimsTable:
    """Shown by a notebook: HTML for the reader, JSON for the command that runs the notebook."""

    columns = ("Claim", "Paper", "Recorded", "Yours", "Holds")

    def __init__(self, lesson: Lesson):
        record = records.notebook(lesson.name, lesson.profile)
        self.data = lesson.record()
        self.rows = [self._row(claim, record) for claim in lesson.claims]
        self.caption = f"Claims of {lesson.name}, profile {lesson.profile}, seed {lesson.seed}"

    @staticmethod
    def _row(claim: Claim, record: dict | None) -> tuple[str, ...]:
        paper = "–" if claim.paper is None else f"{claim.paper:.3f} ({claim.source})"
        recorded, yours = f"{claim.value:.3f}", "–"
        if claim.live:
            recorded = records.describe(records.claim_values(record, claim.name))
            yours = f"{claim.value:.3f}"
        if record and records.is_stale(record):
            recorded += ", earlier settings"
        return claim.text, paper, recorded, yours, "yes" if claim.ok else "no"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        table = figures.table(self.rows, self.columns, self.caption)
        return {"text/html": figures.as_html(table), "text/plain": self.plain(), MIME: self.data}

    def plain(self) -> str:
        """The same as text, a line per claim."""
        lines = [
            f"{row[4]:4}{row[3]:>6}  {row[0]} (paper {row[1]}; recorded {row[2]})"
            for row in self.rows
        ]
        return "\n".join([self.caption, *lines])
