"""What a student gets back: names of tests and hints, as a page, a table and JSON."""

import csv
import html
import io
import json
from pathlib import Path

from cltutor.files import write_whole

STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}th,td{border:1px solid #767676;padding:.3rem .6rem;"
    "text-align:left;vertical-align:top}caption{text-align:left;font-weight:bold;padding:.5rem 0}"
)
HEAD = ("exercise", "test", "passed", "hint")


def write(folder: Path, report: dict) -> None:
    """report.html, report.csv and, last, report.json, whose presence says that all are there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "report.html", page(report).encode())
    write_whole(folder / "report.csv", table([HEAD, *rows(report)]).encode())
    write_whole(folder / "report.json", (json.dumps(report, indent=1) + "\n").encode())


def rows(report: dict) -> list[tuple]:
    """A row per test."""
    return [
        (one["id"], test["name"], "yes" if test["passed"] else "no", test["hint"])
        for one in report["exercises"]
        for test in one["tests"]
    ]


def table(lines: list[tuple]) -> str:
    """CSV; a cell that a spreadsheet would take for a formula is marked as text."""
    out = io.StringIO()
    writer = csv.writer(out)
    for line in lines:
        writer.writerow([f"'{cell}" if str(cell)[:1] in set("=+-@\t\r") else cell for cell in line])
    return out.getvalue()


def page(report: dict) -> str:
    """One HTML file that needs nothing else; whatever came from a student is escaped."""
    name, parts = html.escape(report["student"]), []
    for one in report["exercises"]:
        lines = "".join(
            f'<tr><th scope="row">{html.escape(test["name"])}</th>'
            f"<td>{'passed' if test['passed'] else 'not passed'}</td>"
            f"<td>{html.escape(test['hint'])}</td></tr>"
            for test in one["tests"]
        )
        parts.append(
            f"<table><caption>{html.escape(one['id'])}: {one['points']:g} of {one['of']} points"
            '</caption><tr><th scope="col">test</th><th scope="col">result</th>'
            f'<th scope="col">hint</th></tr>{lines}</table>'
        )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report["notes"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f"<style>{STYLE}</style></head><body><h1>{name}</h1><p>{report['points']:g} of "
        f"{report['of']} points.</p>{''.join(parts)}{f'<ul>{notes}</ul>' if notes else ''}"
        "</body></html>\n"
    )
