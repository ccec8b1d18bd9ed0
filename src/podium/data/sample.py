"""Built-in samples: files in a competition's exact layout, made up, for trying everything without its data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from podium.config import Competition
from podium.data import sample_files
from podium.data.sample_files import Content
from podium.errors import UserError, did_you_mean

VERSION = 1
"""Raised by hand when a generator writes something else for the same seed."""

MARK = "podium sample"


@dataclass(frozen=True)
class Sample:
    """What there is of a competition, and how much of it by default.

    format: of its files, as in the competition's data section. rows: training images; outliers: how many of them are planted
    ones that have to go; test_rows. None where the competition has no such thing. what: what the images are. Made by the
    function of the competition's name in ``sample_<name>``: (seed, the sizes that are not None) → the arrays of the npz
    file by key, or the pictures and texts by path.
    """

    format: str
    rows: int
    outliers: int | None = None
    test_rows: int | None = None
    what: str = "generated data"


SAMPLES = {
    "mars": Sample("npz", 240, 10, 96),
    "blood": Sample("npz", 224, 32),
    "wbc": Sample("folder", 48, test_rows=12),
    "warwick": Sample("folder", 40, test_rows=12),
    "mnist": Sample("table", 400, test_rows=100, what="scikit-learn's digits, not MNIST's"),
}


def has_sample(competition: Competition) -> bool:
    """Whether there is a sample of this competition in the format that its configuration asks for."""
    known = SAMPLES.get(competition.name)
    return known is not None and known.format == competition.data.format


def place(competition: Competition, folder: Path) -> Path:
    """What says of itself that it is a sample: in a data folder the npz file, with other formats the folder itself."""
    return folder / competition.data.expects if competition.data.format == "npz" else folder


def what_it_is(competition_name: str) -> str:
    """What a sample's images are, for the sentence about the data."""
    return SAMPLES[competition_name].what if competition_name in SAMPLES else Sample.what


def write_sample(
    competition_name: str,
    path: Path,
    seed: int = 0,
    rows: int | None = None,
    outliers: int | None = None,
    test_rows: int | None = None,
) -> None:
    """Write ``rows`` training rows, ``outliers`` of them planted, and ``test_rows`` test images to ``path``.

    path: the npz file, or the folder of a competition with other files. The same seed gives the same content. A sample
    is known as one wherever it is copied to: an npz file says so in its zip comment, a folder in ``podium-sample.json``.
    It is written beside and renamed, so that a kill or a second process leaves no half of it; a sample that was there
    before is replaced, a folder with anything else in it is not (UserError). No sample of the competition, or sizes that
    it cannot have: UserError.
    """
    if competition_name not in SAMPLES:
        raise UserError(
            f"{competition_name}: there is no built-in sample; name the folder of the competition's data with --data "
            f"({did_you_mean(competition_name, SAMPLES)})"
        )
    known = SAMPLES[competition_name]
    sizes = _sizes(competition_name, known, rows, outliers, test_rows)
    module = import_module(f"podium.data.sample_{competition_name}")
    make: Callable[..., Content] = getattr(module, competition_name)
    content = make(seed, **sizes)
    if known.format == "npz":
        sample_files.write_npz(path, content, _mark(seed))
    else:
        sample_files.write_folder(path, content, _mark(seed), f"{competition_name}: {known.what}")


def is_sample(path: Path) -> bool:
    """Whether ``path`` is a file or folder that ``write_sample`` wrote, of any version."""
    return sample_files.mark_of(path).startswith(MARK)


def sample_of_this_version(path: Path) -> bool:
    """Whether ``path`` is the default sample as this version writes it."""
    return sample_files.mark_of(path) == _mark(0)


def _mark(seed: int) -> str:
    return f"{MARK} version {VERSION} seed {seed}"


def _sizes(name: str, known: Sample, rows: int | None, outliers: int | None, test_rows: int | None) -> dict[str, int]:
    """The sizes that the generator takes; those that were not given are the sample's own."""
    sizes = {"rows": known.rows if rows is None else rows}
    for key, given, own in (("outliers", outliers, known.outliers), ("test_rows", test_rows, known.test_rows)):
        if own is not None:
            sizes[key] = own if given is None else given
        elif given is not None:
            raise UserError(f"{name}: its sample has no {key}; leave them out")
    if sizes["rows"] < 1 or not 0 <= sizes.get("outliers", 0) < sizes["rows"] or sizes.get("test_rows", 1) < 1:
        said = " and ".join(f"{count} {key}" for key, count in sizes.items())
        raise UserError(f"{name}: a sample of {said} cannot be made; ask for other numbers")
    return sizes
