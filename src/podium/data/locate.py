"""Where a competition's data comes from: a given folder, the usual places, Kaggle, else the built-in sample."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from podium.config import Competition
from podium.data.sample import has_sample, is_sample, place, sample_of_this_version, what_it_is, write_sample
from podium.errors import UserError
from podium.hosted import kaggle_input as attached
from podium.kaggle import credentials
from podium.kaggle import download as kaggle_download

Kind = Literal["given", "environment", "project", "kaggle_input", "download", "sample"]

REASONS: dict[Kind, str] = {
    "given": "given with --data",
    "environment": "from $PODIUM_DATA",
    "project": "the project's own data folder",
    "kaggle_input": "Kaggle's input folder",
    "download": "downloaded from Kaggle",
    "sample": "the built-in sample",
}


@dataclass(frozen=True)
class Origin:
    """The folder that holds the competition's file, and how it was found.

    name: under which results live: the competition's, with ``-sample`` where the data are the built-in sample,
    wherever they lie, so that its results are never taken for real ones.
    """

    kind: Kind
    folder: Path
    name: str

    @property
    def sample(self) -> bool:
        """Whether the data is generated rather than the competition's."""
        return self.name.endswith("-sample")

    def sentence(self) -> str:
        """What a run prints about its data."""
        what = what_it_is(self.name.removesuffix("-sample"))
        warning = f"; {what}: its scores say nothing about the competition" if self.sample else ""
        return f"data of {self.name}: {self.folder} ({REASONS[self.kind]}{warning})"


def locate(
    competition: Competition,
    root: Path,
    data: Path | None = None,
    sample: bool = False,
    download: Callable[[str, Path], None] | None = None,
    notify: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
    kaggle_input: Path | None = None,
    keeps: Path | None = None,
) -> Origin:
    """Find the competition's file; the first of these that holds it.

    ``data`` (a folder, one with a sub-folder of the competition's name, or the file itself); $PODIUM_DATA/<name>;
    ``root``/data/<name>; ``kaggle_input``/<slug>; a download to ``keeps``/data/<name> where Kaggle credentials are;
    the built-in sample, written to ``keeps``/data/<name>-sample. ``sample`` goes straight to the last. keeps: ``root``
    where not given; another folder where that is read-only.
    ``download(slug, folder)`` replaces the download in tests. A wrong ``data`` and a failed download are UserErrors,
    never a reason to go on silently.
    """
    if data is not None and sample:
        raise UserError("--data and --sample exclude each other; leave one out")
    if data is not None:
        return _origin("given", _given(competition, data), competition)
    keeps = keeps or root
    if sample:
        return _sample(competition, keeps)

    wanted = competition.data.expects
    places: list[tuple[Kind, Path]] = []
    if os.environ.get("PODIUM_DATA"):
        places.append(("environment", Path(os.environ["PODIUM_DATA"]).expanduser() / competition.name))
    project = keeps / "data" / competition.name
    places += [("project", folder) for folder in dict.fromkeys((root / "data" / competition.name, project))]
    if competition.kaggle is not None:
        inputs = kaggle_input or attached()
        places += [("kaggle_input", inputs / competition.kaggle)]
        places += [("kaggle_input", inputs / "competitions" / competition.kaggle)]
    for kind, folder in places:
        if _there(folder, wanted):
            return _origin(kind, folder, competition)
        if kind == "environment":
            notify(f"PODIUM_DATA: there is no {folder / wanted}; looking further")

    found = credentials.credentials() if competition.kaggle is not None else None
    if competition.kaggle is not None and found is not None:
        notify(f"downloading {competition.kaggle} from Kaggle to {project} (credentials: {found})")
        if download is not None:
            download(competition.kaggle, project)
        else:
            kaggle_download.download(competition.kaggle, project, expect=wanted)
        if not _there(project, wanted):
            raise UserError(
                f"{project}: the download of '{competition.kaggle}' brought {_held(project)} instead of "
                f"{wanted}; correct the data section of the competition, or use --data or --sample"
            )
        return _origin("download", project, competition)
    if not has_sample(competition):
        looked = ", ".join(str(folder) for _, folder in places)
        raise UserError(
            f"{competition.name}: no {wanted} in {looked}, no Kaggle credentials and no built-in "
            f"sample; put the data into {project} or name their folder with --data"
        )
    return _sample(competition, keeps)


def _there(folder: Path, wanted: str) -> bool:
    """Whether a folder holds what is expected, a table perhaps compressed."""
    return (folder / wanted).exists() or (wanted.endswith(".csv") and (folder / f"{wanted}.gz").is_file())


def _origin(kind: Kind, folder: Path, competition: Competition) -> Origin:
    generated = is_sample(place(competition, folder))
    return Origin(kind, folder, f"{competition.name}-sample" if generated else competition.name)


def _given(competition: Competition, data: Path) -> Path:
    wanted = competition.data.expects
    data = data.expanduser()
    if data.is_file():
        if data.name.removesuffix(".gz") != Path(wanted).name.removesuffix(".gz"):
            key = {"npz": "data.file", "table": "data.train.file"}.get(competition.data.format)
            rename = f"rename it or add --set {key}={data.name}" if key else "name the folder that holds it"
            raise UserError(f"--data {data}: is a file named otherwise than {wanted}; {rename}")
        return data.parents[len(Path(wanted).parts) - 1]
    if not data.is_dir():
        raise UserError(f"--data {data}: no such folder; name the one that holds {wanted}, or use --sample")
    for folder in (data, data / competition.name):
        if _there(folder, wanted):
            return folder
    raise UserError(
        f"--data {data}: holds {_held(data)} where {wanted} (or {competition.name}/{wanted}) is expected; "
        f"put it there, name another folder, or use --sample"
    )


def _sample(competition: Competition, keeps: Path) -> Origin:
    """The sample in ``keeps``/data, written where it is missing or of another version; foreign files stay."""
    folder = keeps / "data" / f"{competition.name}-sample"
    if not has_sample(competition):
        raise UserError(
            f"{competition.name}: there is no built-in sample; name the folder of the competition's data with --data"
        )
    path = place(competition, folder)
    occupied = any(path.iterdir()) if path.is_dir() else path.exists()
    if occupied and not is_sample(path):
        raise UserError(
            f"{path}: is not the built-in sample, or damaged, and is not overwritten; move it away, "
            f"or name its folder with --data"
        )
    if not sample_of_this_version(path):
        write_sample(competition.name, path)
    if not _there(folder, competition.data.expects):
        raise UserError(
            f"{folder}: the sample has no {competition.data.expects}; correct the competition's data section, or delete "
            "this folder, it is written anew"
        )
    return Origin("sample", folder, f"{competition.name}-sample")


def _held(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more if names else "nothing"
