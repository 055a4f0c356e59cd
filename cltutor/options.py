"""What the commands have in common: options of one name and meaning, and where they print."""

import sys
from typing import Annotated

import typer
from rich.console import Console

console = Console(width=None if sys.stdout.isatty() else 120)

Text = str | None
Texts = list[str] | None
WHAT = typer.Argument(help="a notebook (01 is enough) or a method")
Profile = Annotated[str, typer.Option(help="quick, laptop or paper")]
Seed = Annotated[int, typer.Option(help="decides every draw and the order of the classes")]
Preset = Annotated[Text, typer.Option(help="a named setting of the method")]
OtherStream = Annotated[
    Text,
    typer.Option(
        "--stream", help="of a method, such as split-mnist-10, permuted-digits or voc-canvas16-6-2"
    ),
]
Scenario = Annotated[Text, typer.Option(help="of a method: class, domain, task")]
Probe = Annotated[Text, typer.Option(help="also linear probes: logistic, sgd, ...")]
Record = Annotated[bool, typer.Option("--record", help="write data/recorded/")]
Workers = Annotated[int, typer.Option(min=1, help="processes side by side")]
