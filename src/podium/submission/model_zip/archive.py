"""The file itself: model.py as it stands in the package, settings.json and the nets, in a zip."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections import Counter
from pathlib import Path

from podium.config_model_zip import ModelZip
from podium.errors import UserError
from podium.submission.model_zip.content import Content

CODE = Path(__file__).with_name("model.py")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time that every entry bears, the first that a zip can hold: equal content makes equal bytes."""
READABLE = 0o100644 << 16
"""A plain file that all may read, where archives keep it."""
UNIX = 3
MB = 1_000_000


def write(path: Path, content: Content, nets: Path) -> None:
    """Write a model_zip to exactly ``path``, and flush it to the disk. nets: the folder with the ONNX files.

    A file above ``size_limit`` is a UserError that says what of it is how large; OSError is left to the caller.
    """
    files = [net.file for member in content.members for net in member.nets]
    with path.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_entry("model.py"), CODE.read_bytes(), zipfile.ZIP_DEFLATED)
            settings = json.dumps(content.settings(), indent=1, ensure_ascii=True, allow_nan=False)
            archive.writestr(_entry("settings.json"), settings + "\n", zipfile.ZIP_DEFLATED)
            for name in files:
                entry = _entry(name)
                entry.compress_type, entry.file_size = zipfile.ZIP_DEFLATED, (nets / name).stat().st_size
                with (nets / name).open("rb") as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            sizes = {info.filename: info.compress_size for info in archive.infolist()}
        file.flush()
        os.fsync(file.fileno())
    _check_size(path.stat().st_size, sizes, content)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system, entry.external_attr = UNIX, READABLE
    return entry


def _check_size(size: int, sizes: dict[str, int], content: Content) -> None:
    settings = content.competition.submission
    assert isinstance(settings, ModelZip)
    limit = settings.size_limit
    if limit is None or size <= limit * MB:
        return
    parts: Counter[str] = Counter()
    for member in content.members:
        number = len(member.nets)
        parts[f"{number} net{'s' * (number > 1)} of {member.name}"] = sum(sizes[net.file] for net in member.nets)
    parts["code and settings"] = size - parts.total()
    told = ", ".join(f"{part} {bytes_ / MB:.2f} MB" for part, bytes_ in parts.most_common())
    raise UserError(
        f"{content.competition.name}: the file would have {size / MB:.2f} MB and submission.size_limit is {limit:g} MB: {told}; "
        f"leave models or folds out (--models, --folds), or train smaller nets"
    )
