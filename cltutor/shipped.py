"""The files that ship with the kit: digits, judges, recorded results, each with its sha256.

They lie in `data/` of a checkout and in `_data/` of an installed package, listed in SHA256SUMS
there. `python -m cltutor.shipped` writes `digits.npz` again, byte for byte.
"""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np

from cltutor.errors import UserError
from cltutor.files import write_whole


def data_dir() -> Path:
    """The folder of the files that ship with the kit: in the package, else in the checkout."""
    packed = Path(__file__).parent / "_data"
    return packed if packed.is_dir() else Path(__file__).parents[1] / "data"


def embedded(name: str, folder: Path | None = None) -> bytes:
    """The bytes of the file `name` of `folder` (default `data_dir()`), checked by SHA256SUMS.

    Raises UserError, naming the file and how to restore it, if it is missing or altered.
    """
    path = (folder or data_dir()) / name
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != _checksums(folder).get(name):
        raise UserError(
            f"{path} is missing or altered: restore it with `git checkout data/{name}`, "
            "or install cltutor again"
        )
    return content


def verify() -> list[tuple[Path, bool]]:
    """Every file listed in SHA256SUMS of `data_dir()`, and whether it is there unaltered."""
    files = []
    for name in _checksums():
        try:
            embedded(name)
        except UserError:
            files.append((data_dir() / name, False))
        else:
            files.append((data_dir() / name, True))
    return files


def write_embedded(folder: Path, name: str, content: bytes) -> Path:
    """Write the file `name` below `folder` and its line in the SHA256SUMS there."""
    lines = _checksums(folder) | {name: hashlib.sha256(content).hexdigest()}
    listing = "".join(f"{digest}  {known}\n" for known, digest in sorted(lines.items()))
    for path, part in ((folder / name, content), (folder / "SHA256SUMS", listing.encode())):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, part)
    return folder / name


def export_digits(folder: Path) -> Path:
    """Write scikit-learn's 1,797 digits and the fixed split as `folder`/digits.npz."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    arrays = {
        "x": digits.images.astype(np.uint8),
        "y": digits.target.astype(np.uint8),
        "test": _stratified(digits.target, 500),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, array, allow_pickle=False)
            # np.savez records the operating system; a fixed one gives the same bytes everywhere.
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.create_system = 3
            archive.writestr(entry, part.getvalue())
    return write_embedded(folder, "digits.npz", packed.getvalue())


def _stratified(y: np.ndarray, n: int) -> np.ndarray:
    """Sorted indices (uint16) of `n` items, each class by its share (largest remainders first)."""
    exact = np.bincount(y) * n / len(y)
    quota = exact.astype(int)
    quota[np.argsort(quota - exact, kind="stable")[: n - quota.sum()]] += 1
    # RandomState, because its draws are frozen for good (NumPy's NEP 19).
    order = np.random.RandomState(0).permutation(len(y))
    chosen = [order[y[order] == label][:count] for label, count in enumerate(quota)]
    return np.sort(np.concatenate(chosen)).astype(np.uint16)


def _checksums(folder: Path | None = None) -> dict[str, str]:
    listing = (folder or data_dir()) / "SHA256SUMS"
    lines = listing.read_text().splitlines() if listing.exists() else []
    return {name: digest for digest, name in (line.split() for line in lines)}


if __name__ == "__main__":
    print(export_digits(data_dir()))
