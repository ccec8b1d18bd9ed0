"""Where things lie: the project's configurations and data, and the folders that results go to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from podium.errors import UserError
from podium.hosted import read_only, results_folder


@dataclass(frozen=True)
class Workspace:
    """root: holds configs/ and data/. out: receives runs/, folds/ and submissions/; the same folder unless --out says otherwise,
    and in Kaggle's notebooks the one that Kaggle keeps."""

    root: Path
    out: Path

    @property
    def competitions(self) -> Path:
        """Folder of the competitions' YAML files."""
        return self.root / "configs" / "competitions"

    @property
    def recipes(self) -> Path:
        """Folder of the recipes' YAML files."""
        return self.root / "configs" / "models"

    @property
    def keeps(self) -> Path:
        """What receives data that are downloaded or made up, in its data/: ``root``, or ``out`` where that is read-only."""
        return self.out if read_only(self.root) else self.root

    @property
    def folds(self) -> Path:
        """Folder of the fold files."""
        return self.out / "folds"

    @property
    def submissions(self) -> Path:
        """Folder of the packed files and their ledger."""
        return self.out / "submissions"

    def runs(self, name: str) -> Path:
        """Folder of all results of a competition (``mars``) or of its sample (``mars-sample``)."""
        return self.out / "runs" / name

    def audit(self, name: str) -> Path:
        """Folder of what the audit found in a competition's data."""
        return self.runs(name) / "audit"

    def cache(self, name: str) -> Path:
        """Folder of the decoded data of a competition."""
        return self.runs(name) / "data"


def find_workspace(out: Path | None = None) -> Workspace:
    """The project: $PODIUM_ROOT, else the current folder if it has configs/, else the checkout that this code lies in."""
    given = os.environ.get("PODIUM_ROOT")
    candidates = [Path(given)] if given else [Path.cwd(), Path(__file__).resolve().parents[2]]
    for root in candidates:
        if (root / "configs" / "competitions").is_dir():
            return Workspace(root.resolve(), (out or results_folder() or root).resolve())
    looked = " and ".join(str(path) for path in candidates)
    raise UserError(
        f"no folder configs/competitions in {looked}; run from a checkout of podium or set PODIUM_ROOT to one"
    )
