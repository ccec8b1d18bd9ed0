"""Which images belong together, from a table of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from podium.config_data import GroupColumn
from podium.data.csv_rows import miscounted, opened, table_path
from podium.errors import UserError


def read_groups(settings: GroupColumn, folder: Path, ids: Sequence[str]) -> list[str]:
    """The group of each of ``ids``, joined by the id as ``settings.pattern`` writes it.

    Rows of other ids are not looked at: the table may list test images too. An id without a row, without a group or
    with two different groups is a UserError.
    """
    if settings.file is None:
        raise ValueError("the groups are in the training table, its reader gives them")
    path = table_path(folder, settings.file)
    written = [settings.pattern.replace("{id}", name) for name in ids]
    wanted = set(written)
    found: dict[str, tuple[str, int]] = {}
    with opened(path) as table:
        at_id = table.column(settings.id, "data.groups.id")
        at_group = table.column(settings.column, "data.groups.column")
        for row in table.rows():
            complaint = miscounted(table, row)
            if complaint is not None:
                raise UserError(complaint)
            name, group = row.cells[at_id].strip(), row.cells[at_group].strip()
            if name not in wanted:
                continue
            if not group:
                raise UserError(
                    f"{path}, line {row.line}, '{name}': column '{settings.column}' is empty; every image needs a group"
                )
            other, line = found.setdefault(name, (group, row.line))
            if other != group:
                raise UserError(
                    f"{path}, line {row.line}, '{name}': is of group '{group}' here and of '{other}' on line {line}; "
                    f"correct column '{settings.column}'"
                )
    missing = [i for i, name in enumerate(written) if name not in found]
    if missing:
        first = missing[0]
        raise UserError(
            f"{path}: {len(missing)} of {len(ids)} images have no row, the first is '{ids[first]}' (no "
            f"'{written[first]}' in column '{settings.id}'); add the rows or correct data.groups.pattern"
        )
    return [found[name][0] for name in written]
