"""The folders of a kernel: a flat data set of weights, settings and code, and beside it what is pushed as a script."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import podium
from podium.data.fit import Fit
from podium.errors import UserError
from podium.jobs import weights_file
from podium.kernel.script import BLEND, BUNDLE, DECODE, NAME, script
from podium.prepare import Prepared
from podium.standing import Model
from podium.store import canonical, read_done, verify, write_json
from podium.submission.pack import ending_of

CODE = "podium.pyz"
"""podium itself. No .zip: Kaggle would unpack it; and no folder: its command line leaves folders out."""
EPOCH = (1980, 1, 1, 0, 0, 0)
TITLE_LENGTH = (6, 42)
"""Fewest and most characters of a title, with " weights" behind it for the data set's."""


@dataclass(frozen=True)
class Names:
    """How a kernel and its data set are called on Kaggle. gpu: whether the kernel gets one."""

    user: str
    title: str
    gpu: bool

    @property
    def slug(self) -> str:
        """What Kaggle makes of the title."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    @property
    def kernel(self) -> str:
        """The kernel's id."""
        return f"{self.user}/{self.slug}"

    @property
    def dataset(self) -> str:
        """The data set's id."""
        return f"{self.user}/{self.slug}-weights"

    def check(self) -> None:
        """A name or a title that Kaggle would refuse is a UserError."""
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.user):
            raise UserError(
                f"--user {self.user!r}: a name on Kaggle has letters, digits, - and _; it stands in your address"
            )
        low, high = TITLE_LENGTH
        if not low <= len(self.title) <= high or len(self.slug) < low:
            raise UserError(
                f"--title {self.title!r}: Kaggle wants {low} to {high} characters, letters and digits among them"
            )


@dataclass(frozen=True)
class Bundle:
    """All that goes into the data set. files: name → the file of weights; told: kernel.json but for its id."""

    id: str
    files: Mapping[str, Path]
    told: Mapping[str, Any]
    code: bytes
    blend: Path


def collect(prepared: Prepared, blend: Path, models: Sequence[Model], fit: Fit, names: Names) -> Bundle:
    """Everything of a blend's models that weigh anything; weights that are not those of the test predictions are a UserError.

    blend: its folder. models: trained here, in the order of the blend, with predictions of the test set.
    """
    competition = prepared.competition
    assert competition.submission is not None
    files: dict[str, Path] = {}
    told, sums = {}, []
    for model in models:
        assert model.recipe is not None and model.member.test is not None
        kept, predicted = weights_file(model.recipe.train.keep), read_done(model.member.test[0])
        own = {
            f"{model.name}-{model.member.run[:8]}-fold{fold}.safetensors": model.weights[fold] / kept
            for fold in sorted(model.weights)
        }
        found = [verify(path.parent, kept)["files"][kept]["sha256"] for path in own.values()]
        if predicted["weights"] != found:
            raise UserError(
                f"{model.name}: its test predictions were made with other weights than those that are there; run podium predict "
                f"{competition.name} again"
            )
        files |= own
        sums += found
        told[model.name] = {
            "recipe": model.recipe.model_dump(mode="json"),
            "files": list(own),
            "machine": predicted["machine"],
        }
    record = {
        "competition": competition.model_dump(mode="json"),
        "channels": prepared.dataset.train.channels,
        "fit": {"size": list(fit.size), "how": fit.how, "overlap": fit.overlap},
        "models": told,
        "file": f"submission{ending_of(competition.submission)}",
    }
    code = zipped(Path(podium.__file__).parent)
    texts = [(blend / name).read_text(encoding="utf-8") for name in (BLEND, DECODE)]
    what = [record, texts, sums, hashlib.sha256(code).hexdigest(), names.kernel, names.title, names.gpu]
    return Bundle(hashlib.sha256(canonical(what).encode()).hexdigest()[:16], files, record, code, blend)


def write(folder: Path, bundle: Bundle, names: Names, slug: str) -> None:
    """Write ``folder``/dataset and ``folder``/kernel; slug: the competition's on Kaggle."""
    dataset, kernel = folder / "dataset", folder / "kernel"
    dataset.mkdir(parents=True)
    kernel.mkdir()
    for name, path in bundle.files.items():
        shutil.copyfile(path, dataset / name)
    for name in (BLEND, DECODE):
        shutil.copyfile(bundle.blend / name, dataset / name)
    (dataset / CODE).write_bytes(bundle.code)
    (dataset / "needs.txt").write_text("", encoding="utf-8")  # what it needs is known when it has run
    write_json(dataset / BUNDLE, {"id": bundle.id, **bundle.told})
    about = {"title": f"{names.title} weights", "id": names.dataset, "licenses": [{"name": "other"}]}
    write_json(dataset / "dataset-metadata.json", about)
    (kernel / NAME).write_text(script(bundle.id, names.title, names.dataset), encoding="utf-8")
    settings = {
        "id": names.kernel,
        "title": names.title,
        "code_file": NAME,
        "language": "python",
        "kernel_type": "script",
        "is_private": True,
        "enable_gpu": names.gpu,
        "enable_tpu": False,
        "enable_internet": False,
        "dataset_sources": [names.dataset],
        "competition_sources": [slug],
        "kernel_sources": [],
        "model_sources": [],
    }
    write_json(kernel / "kernel-metadata.json", settings)


def zipped(package: Path) -> bytes:
    """The modules of a package as a zip that Python imports from; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*.py")):
            archive.writestr(
                zipfile.ZipInfo(f"{package.name}/{path.relative_to(package).as_posix()}", EPOCH), path.read_bytes()
            )
    return buffer.getvalue()
