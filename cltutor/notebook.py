"""Execute notebooks, take out their claims, and store them clean."""

import ast
import base64
import hashlib
import json
import os
import re
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from papermill.execute import execute_notebook

from cltutor.claims import MIME
from cltutor.errors import InstallError, NotebookError, UserError

CELL_SECONDS = 3600  # the longest that one cell may take: the laptop profile's fits


def folder() -> Path:
    """The folder of the notebooks: in the package, else in the checkout."""
    packed = Path(__file__).parent / "_notebooks"
    return packed if packed.is_dir() else Path(__file__).parents[1] / "notebooks"


def names() -> list[str]:
    """All notebooks, in their order."""
    return sorted(path.stem for path in folder().glob("[0-9]*.ipynb"))


def find(name: str) -> Path | None:
    """The notebook of that name or of which it is the unique beginning, such as "01"; else None."""
    found = [known for known in names() if known == name or known.startswith(name)]
    return folder() / f"{found[0]}.ipynb" if len(found) == 1 else None


def parameters(path: Path) -> dict:
    """{name: default} of the cell tagged `parameters`."""
    for cell in nbformat.read(path, 4).cells:
        if "parameters" in cell.metadata.get("tags", []):
            tree = ast.parse(cell.source)
            return {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body}
    return {}


def execute(path: Path, values: dict, out: Path, progress: bool = False) -> dict:
    """Run the notebook with `values` of its parameters; write it to `out`, an .ipynb.

    Returns:
        {"claims": [...], "values": {...}, "config": {...}} that its claims table holds.

    Raises:
        UserError, InstallError: the one that was raised in the notebook.
        NotebookError: any other error in it.
    """
    os.environ["CLTUTOR_HEADLESS"] = "1"
    try:
        executed = execute_notebook(
            str(path), str(out), values, kernel_name="python3", execution_timeout=CELL_SECONDS,
            progress_bar=progress, store_widget_state=False, cwd=str(path.parent),
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )  # fmt: skip
    except PapermillExecutionError as error:
        for kind in (UserError, InstallError):
            if error.ename == kind.__name__:
                raise kind(error.evalue) from None
        raise NotebookError(
            f"{path.stem} stops in cell {error.exec_count} with {error.ename} "
            f"({error.evalue}): run it in JupyterLab to look around."
        ) from error
    return claims(executed)


def claims(notebook) -> dict:
    """What the claims table of an executed notebook holds."""
    for cell in reversed(notebook.cells):
        for output in cell.get("outputs", []):
            if MIME in output.get("data", {}):
                return output["data"][MIME]
    raise ValueError("the notebook shows no claims table: its last cell is lesson.table()")


def to_html(path: Path, out: Path) -> None:
    """Write the executed notebook `path` as one HTML file that needs nothing else."""
    exporter = HTMLExporter(embed_images=True)
    # The notebooks use no MathJax, RequireJS or Mermaid: nothing is to be fetched.
    exporter.mathjax_url = exporter.require_js_url = exporter.mermaid_js_url = ""
    text, _ = exporter.from_filename(str(path))
    text = re.sub(r"<script[^>]*src=[^>]*>\s*</script>", "", text)
    out.write_text(text, encoding="utf-8")


def code_hash(notebook) -> str:
    """A hash of all code cells: whether stored outputs belong to the code above them."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def clean(notebook):
    """The executed notebook as it is stored: free of what changes from run to run."""
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook.metadata["cltutor"] = code_hash(notebook)
    for cell, count in zip(_code(notebook), range(1, 10_000), strict=False):
        cell.execution_count = count
        if "volatile" in cell.metadata.get("tags", []):
            cell.outputs = []
        # stderr holds warnings and progress
        cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        for output in cell.outputs:
            if "execution_count" in output:
                output["execution_count"] = count
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
    return notebook


def store(path: Path, progress: bool = False) -> None:
    """Execute the notebook in `quick`, seed 0, and store it with its outputs."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.ipynb")
    try:
        execute(path, {}, temporary, progress)
        nbformat.write(clean(nbformat.read(temporary, 4)), temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def pictures(notebook) -> list[bytes]:
    """The PNG files shown in the outputs, in order."""
    text = "".join(
        output.get("data", {}).get("text/html", "")
        for cell in _code(notebook)
        for output in cell.outputs
    )
    return [
        base64.b64decode(found) for found in re.findall(r"data:image/png;base64,([^\"]+)", text)
    ]


def _code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
