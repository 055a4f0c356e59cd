"""The papers that the kit names: notebooks/references.bib, and an entry as a citation."""

import re
import unicodedata

ACCENTS = {"'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302", "~": "\u0303"}
LETTERS = {r"\l": "ł", r"\L": "Ł", r"\o": "ø", r"\O": "Ø", r"\i": "i", r"\ss": "ß"}


def read(text: str) -> dict[str, dict[str, str]]:
    """{key: {field: value}} of a BibTeX file whose values are in braces. Raises ValueError."""
    entries, rest = {}, text.strip()
    while rest:
        head = re.match(r"@(\w+)\{([\w-]+),", rest)
        if head is None:
            raise ValueError(f"no entry begins at {rest[:40]!r}")
        fields, rest = {"type": head[1]}, rest[head.end() :].lstrip()
        while not rest.startswith("}"):
            field = re.match(r"(\w+)\s*=\s*\{", rest)
            if field is None:
                raise ValueError(f"{head[2]}: no field begins at {rest[:40]!r}")
            depth, at = 1, field.end()
            while depth:
                if at == len(rest):
                    raise ValueError(f"{head[2]}: the braces of {field[1]} do not match")
                depth += {"{": 1, "}": -1}.get(rest[at], 0)
                at += 1
            fields[field[1]] = rest[field.end() : at - 1]
            rest = rest[at:].lstrip().removeprefix(",").lstrip()
        if head[2] in entries:
            raise ValueError(f"{head[2]} is there twice")
        entries[head[2]], rest = fields, rest[1:].lstrip()
    return entries


def plain(value: str) -> str:
    """A value with letters for TeX's accents, without braces. Raises ValueError at other TeX."""
    text = " ".join(value.split()).replace("---", "—").replace("--", "–")
    text = re.sub(r"\\(?:ss|[lLoOi])(?![A-Za-z])", lambda found: LETTERS[found[0]], text)
    accented = r"\\(['`\"^~])\{?([A-Za-z])\}?"
    text = re.sub(accented, lambda found: found[2] + ACCENTS[found[1]], text)
    if "\\" in text:
        raise ValueError(f"no such TeX is known: {value!r}")
    return unicodedata.normalize("NFC", re.sub(r"[{}]", "", text))


def citation(fields: dict[str, str]) -> str:
    """An entry in Markdown: authors, year, title, where it appeared, where it can be read."""
    known = {name: plain(value) for name, value in fields.items()}
    names = [" ".join(reversed(one.split(", "))) for one in known["author"].split(" and ")]
    people = ", ".join(names[:-1]) + (" and " if names[1:] else "") + names[-1]
    if "booktitle" in known:
        known["booktitle"] = f"In {known['booktitle']}"
    where = ("journal", "booktitle", "series", "volume", "number", "pages")
    where = [known[name] for name in (*where, "publisher", "howpublished", "note") if name in known]
    parts = [f"{people} ({known['year']})", f"*{known['title']}*", ", ".join(where)]
    if "doi" in known:
        parts.append(f"[doi:{known['doi']}](https://doi.org/{known['doi']})")
    if "eprint" in known:
        parts.append(f"[arXiv:{known['eprint']}](https://arxiv.org/abs/{known['eprint']})")
    return ". ".join(part for part in parts if part) + "."
