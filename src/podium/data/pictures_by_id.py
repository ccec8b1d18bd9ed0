"""The pictures that a table's ids mean: by a template that must fit, with a hint where another one would."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path, PurePosixPath

from podium.data.folder import match


class PicturesById:
    """Finds pictures below ``folder`` by a template, ``train/{id}.png``; ``*`` in it stands for text within a name."""

    def __init__(self, folder: Path, template: str) -> None:
        self.folder, self.template = folder, template
        self._stems: dict[Path, dict[str, str]] = {}

    def find(self, name: str) -> Path:
        """The picture of the id ``name``; ValueError with half a sentence where there is none, or more than one."""
        relative = self.template.replace("{id}", name)
        if PurePosixPath(relative).is_absolute() or ".." in PurePosixPath(relative).parts or "\0" in name:
            raise ValueError("the id leads out of the data folder; correct it")
        path = self.folder / relative
        if "*" in self.template:
            found = self._matched.get(name, [])
            if not found:
                raise ValueError(f"no image matches {path}; add it or remove the row")
            if len(found) > 1:
                raise ValueError(
                    f"has {len(found)} images, {found[0]} and {found[1]}; leave one or narrow the template"
                )
            return found[0]
        if not os.path.isfile(path):
            raise ValueError(f"there is no image {path}; {self._hint(name, path)}")
        return path

    @cached_property
    def _matched(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for item in match(self.folder, self.template):
            found.setdefault(item.id, []).append(item.path)
        return found

    def _hint(self, name: str, path: Path) -> str:
        """The way out: where possible, the template with which the picture is found. Only the user knows if it is meant."""
        before, _, after = self.template.partition("{id}")
        start = before.rpartition("/")[2]
        folders = before.removesuffix(start)
        for other in (f"{before}{{id}}", f"{folders}{{id}}{after}", f"{folders}{{id}}"):
            if os.path.isfile(self.folder / other.replace("{id}", name)):
                return f"the ids of the table hold more of the name than that, use {other}"
        if "/" not in after:
            there = self._listed(path.parent).get(path.name.removesuffix(after))
            if there is not None:
                return f"but there is '{there}', use {before}{{id}}{PurePosixPath(there).suffix} if that is meant"
        return "add it or remove the row"

    def _listed(self, folder: Path) -> dict[str, str]:
        """Name without suffix → name, of what is in a folder; read once, since many ids may miss their picture."""
        if folder not in self._stems:
            try:
                entries = sorted(os.listdir(folder))
            except OSError:  # no such folder, or not to be read: then there is no hint
                entries = []
            self._stems[folder] = {PurePosixPath(entry).stem: entry for entry in entries if PurePosixPath(entry).suffix}
        return self._stems[folder]
