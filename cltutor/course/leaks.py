"""One scan of all that goes to students, for what they must not find.

Every file is opened as far as it goes: notebooks into all their strings, whatever is base64 into
bytes, archives and wheels into members. Looked for are the key, canaries, lines of solutions and
expected values, in the forms in which they get out by accident; and whatever has no business in a
student's notebook at all: outputs, attachments, widget state, metadata of a run.
"""

import base64
import binascii
import gzip
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cltutor.course import build
from cltutor.course.variant import Variant

SHORTEST = 16  # characters of a line, without blanks, that is told apart from any other
COMPILED = {".pyc", ".pyo", ".so", ".pkl", ".pickle", ".pt", ".npy"}
DEEPEST = 4  # archives in archives
ENCODED = re.compile(r"[A-Za-z0-9+/]{8,}")
BASE64 = re.compile(r"[A-Za-z0-9+/]{24,}={0,2}")
NUMBER = re.compile(r"-?\d+\.\d{9,}")


@dataclass
class Secrets:
    """{line, squeezed: what it is}, anywhere and in notebooks alone (open solutions); encoded."""

    everywhere: dict[str, str] = field(default_factory=dict)
    notebooks: dict[str, str] = field(default_factory=dict)
    encoded: dict[str, str] = field(default_factory=dict)


def secrets(key: str | None, variants: list[Variant], practice: dict) -> Secrets:
    """What must not be in a release: of the graded exercises anywhere, of practice in notebooks."""
    found = Secrets()
    kit = Path(__file__).parents[1]
    public = squeeze("".join(path.read_text("utf-8") for path in kit.rglob("*.py")))
    if key:
        found.everywhere[squeeze(key)] = "the key"
        found.encoded |= {form: "the key" for form in encodings(key)}
    for variant in variants:
        shown = public + squeeze(variant.text + variant.stub + build.example(variant, key))
        for line in [build.canary(variant, key), *variant.solution.splitlines()]:
            if len(squeeze(line)) >= SHORTEST and squeeze(line) not in shown:
                found.everywhere[squeeze(line)] = what = f"a line of the solution of {variant.id}"
                found.encoded |= {form: what for form in encodings(line.strip())}
        values = set(NUMBER.findall(build.hidden(variant, key))) - set(NUMBER.findall(shown))
        found.everywhere |= {value: f"a value of a test of {variant.id}" for value in values}
    given = {n: squeeze("".join(c.source for c in build.student(nb).cells))
             for n, nb in practice.items()}  # fmt: skip
    for name, source in practice.items():
        # A line that other notebooks have is no one's solution; one in the same notebook may be.
        rest = public + "".join(text for other, text in given.items() if other != name)
        rest += squeeze("".join(cell.source for cell in source.cells if _is_stub(cell)))
        for cell in source.cells:
            if "solution" not in cell.metadata.get("tags", []):
                continue
            for line in cell.source.splitlines():
                if len(squeeze(line)) >= SHORTEST and squeeze(line) not in rest:
                    what = f"a line of the open solution of {cell.metadata['id']} ({name})"
                    found.notebooks[squeeze(line)] = what
    return found


def _is_stub(cell) -> bool:
    return "exercise" in cell.metadata.get("tags", [])


def squeeze(text: str) -> str:
    """Without blanks, which change on the way, and with one kind of quotes."""
    return "".join(text.split()).replace('"', "'")


def encodings(line: str) -> set[str]:
    """A line as hexadecimal and base64 show it, wherever it begins."""
    raw, found = line.encode(), {line.encode().hex()}
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        found.add(text[4 if shift else 0 : len(text) - 2])  # without what depends on neighbours
    return found


def scan(tree: Path, known: Secrets) -> list[str]:
    """What is wrong with a folder, each with its place; [] if it may go out."""
    found = []
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        name = path.relative_to(tree).as_posix()
        content = path.read_bytes()
        if path.suffix == ".ipynb":
            found += [f"{name}: {fault}" for fault in faults(content)]
        for place, text in texts(name, content):
            found += hits(place, text, known)
    return list(dict.fromkeys(found))


def hits(place: str, text: str, known: Secrets) -> list[str]:
    """The secrets in one piece of text."""
    looked = dict(known.everywhere)
    if ".ipynb" in place and "!" not in place:  # the wheel holds the open solutions
        looked |= known.notebooks
    squeezed, runs = squeeze(text), " ".join(ENCODED.findall(text))
    found = {what for form, what in looked.items() if form in squeezed}
    found |= {what for form, what in known.encoded.items() if form in runs}
    return [f"{place}: {what}" for what in sorted(found)]


def texts(name: str, content: bytes, depth: int = 0) -> Iterator[tuple[str, str]]:
    """(place, text) of everything that a file holds; "!" leads into an archive."""
    if depth > DEEPEST:
        return
    if Path(name).suffix in COMPILED:
        yield name, content.decode("latin-1")
    elif zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for member in packed.namelist():
                yield from texts(f"{name}!{member}", packed.read(member), depth + 1)
    elif content[:2] == b"\x1f\x8b":
        yield from texts(f"{name}!", gzip.decompress(content), depth + 1)
    elif content[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(content)) as packed:
            for member in (one for one in packed if one.isfile()):
                inner = packed.extractfile(member).read()
                yield from texts(f"{name}!{member.name}", inner, depth + 1)
    else:
        yield name, f"{name}\n{content.decode('utf-8', 'replace')}"
        if b"\0" in content[:4000]:
            yield name, content.decode("utf-16", "replace")
        try:
            tree = json.loads(content) if Path(name).suffix in (".ipynb", ".json") else None
        except ValueError:
            tree = None
        for place, text in strings(tree):
            yield f"{name} {place}", text
            yield from decoded(f"{name} {place}", text, depth)


def strings(tree, place: str = "") -> Iterator[tuple[str, str]]:
    """Every string of a JSON tree, keys included, with its place; lists of lines are joined."""
    if isinstance(tree, str):
        yield place, tree
    elif isinstance(tree, list):
        if tree and all(isinstance(line, str) for line in tree):
            yield place, "".join(tree)
        for n, value in enumerate(tree):
            yield from strings(value, f"{place}[{n}]")
    elif isinstance(tree, dict):
        for name, value in tree.items():
            yield f"{place}.{name}", name
            yield from strings(value, f"{place}.{name}".lstrip("."))


def decoded(place: str, text: str, depth: int) -> Iterator[tuple[str, str]]:
    """What is base64 within a string: pictures, attachments, buffers of widgets."""
    for run in BASE64.findall(text.replace("\n", "")):
        try:
            content = base64.b64decode(run + "=" * (-len(run) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue
        yield from texts(f"{place} (base64)", content, depth + 1)


def faults(content: bytes) -> list[str]:
    """What a student's notebook holds that it must not, whatever it says."""
    try:
        nb = json.loads(content)
        found = [f"metadata {name}" for name in set(nb["metadata"]) - set(build.KERNEL)]
        for cell in nb["cells"]:
            metadata = set(cell["metadata"]) - build.KEPT - {"tags"}
            tags = set(cell["metadata"].get("tags", [])) - build.TAGS
            found += [f"cell {cell.get('id')} has metadata {name}" for name in sorted(metadata)]
            found += [f"cell {cell.get('id')} has the tag {tag}" for tag in sorted(tags)]
            if cell.get("outputs") or cell.get("execution_count"):
                found.append(f"cell {cell.get('id')} has outputs")
            if "attachments" in cell:
                found.append(f"cell {cell.get('id')} has attachments")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ["is no notebook"]
    return found
