"""The check of format model_zip: what a zip with a model.py looks like from outside. None of its code is run."""

from __future__ import annotations

import ast
import stat
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from podium.config import Competition
from podium.config_model_zip import ModelZip
from podium.data.ragged import Ragged
from podium.errors import UserError
from podium.submission.checks.archives import BROKEN, METHODS
from podium.submission.checks.report import Findings, Report, short

CODE = "model.py"
MOST_CODE = 4 << 20
"""Bytes of a model.py that are looked at."""
THERE = ("numpy", "onnxruntime")
"""What a grader is taken to have beside the standard library."""
LISTED = 5
"""Entries whose sizes a message lists."""
MILLION = 10**6


def check_model_zip(
    path: Path,
    competition: Competition,
    ids: np.ndarray | None = None,
    shapes: np.ndarray | None = None,
    meant: Ragged | None = None,
    own: bool = True,
) -> Report:
    """Read a model_zip from disk and judge it without running it.

    Checked are the archive (whole, no entry twice, encrypted or by a method that not every reader has), that every entry
    stays inside the folder it is unpacked to and is no link, that model.py is at the root, that it has a class Model which
    can be made without arguments and has ``predict`` with one, and the competition's ``size_limit``.

    ids, shapes, meant: of other formats; there are no test images that this could be held against. own: the file was made
    here, so that an import beyond numpy and onnxruntime is an error, not a warning. A file that cannot be read at all is a
    UserError.
    """
    settings = competition.submission
    if not isinstance(settings, ModelZip):
        raise ValueError(f"{competition.name}: its submission is not a model_zip")
    findings = Findings()
    try:
        with path.open("rb") as file:
            files = _archive(file, findings, own, path.stat().st_size, settings.size_limit)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); name an existing zip file") from error
    return findings.report(files, ())


def _archive(file: BinaryIO, findings: Findings, own: bool, size: int, limit: float | None) -> int:
    """Look at everything; gives the number of files."""
    try:
        archive = zipfile.ZipFile(file)
    except (*BROKEN, OSError) as error:  # also OSError: damage sends the reader to places before the beginning
        findings.head.append(f"the file is no zip archive, or is cut off ({error}), expected one with {CODE}")
        return 0
    infos = archive.infolist()
    if limit is not None and size > limit * MILLION:
        findings.head.append(f"the file has {size / MILLION:.2f} MB, allowed are {limit:g} MB: {_largest(infos)}")
    times = Counter(info.filename for info in infos)
    for info in infos:
        if (problem := _problem(info, times[info.filename])) is not None:
            findings.error(f"entry {short(info.filename)}: {problem}")
    if findings.clean:
        _content(archive, findings)
    names = [info.filename for info in infos if not info.is_dir()]
    if CODE not in names:
        deeper = [name for name in names if PurePosixPath(name).name == CODE]
        hint = f"; it is at {short(deeper[0])}, zip the files and not their folder" if deeper else ""
        findings.whole.append(f"there is no {CODE} at the root of the archive{hint}")
    elif findings.clean:
        _code(archive, findings, own)
    return len(names)


def _largest(infos: list[zipfile.ZipInfo]) -> str:
    ordered = sorted(infos, key=lambda info: -info.compress_size)
    told = [f"{short(info.filename)} {info.compress_size / MILLION:.2f} MB" for info in ordered[:LISTED]]
    return ", ".join(told) + (f" and {len(ordered) - LISTED} more" if len(ordered) > LISTED else "")


def _problem(info: zipfile.ZipInfo, times: int) -> str | None:
    """What is wrong with an entry, before it is read."""
    name = info.filename
    if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts or ":" in name.split("/")[0]:
        return "its name leads out of the folder that it is unpacked to; name files relative to it, with /"
    if not name.isprintable() or not name:
        return "its name cannot be that of a file everywhere; use letters, digits, '-', '_' and '.'"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link; put the file itself there"
    if times > 1:
        return f"is there {times} times; keep one"
    if info.flag_bits & 1:
        return "is encrypted; zip it without a password"
    if info.compress_type not in METHODS:
        return "is compressed by a method that not every reader has; use stored or deflated"
    return None


def _content(archive: zipfile.ZipFile, findings: Findings) -> None:
    """Read every entry to its end, where its checksum stands."""
    try:
        damaged = archive.testzip()
    except (*BROKEN, OSError) as error:
        findings.error(f"an entry cannot be read ({error}); zip the files again")
        return
    if damaged is not None:
        findings.error(f"entry {short(damaged)}: its checksum is not right; zip the files again")


def _code(archive: zipfile.ZipFile, findings: Findings, own: bool) -> None:
    with archive.open(CODE) as entry:
        text = entry.read(MOST_CODE + 1)
    if len(text) > MOST_CODE:
        findings.error(f"{CODE} is larger than {MOST_CODE >> 20} MiB; keep data in files beside it")
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python thinks of its style is nobody's error
            tree = ast.parse(text, CODE)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        findings.error(f"{CODE} is no Python that can be read ({error})")
        return
    _class(tree, findings)
    inside = {PurePosixPath(name).parts[0].removesuffix(".py") for name in archive.namelist()}
    for top in sorted(set(_imports(tree)) - inside):
        if top not in sys.stdlib_module_names and top not in THERE:
            place = findings.whole if own else findings.warnings
            place.append(f"{CODE} imports '{top}', which the grader may not have; {' and '.join(THERE)} are enough")


def _imports(tree: ast.Module) -> Iterator[str]:
    """The top names of all modules that are imported anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _class(tree: ast.Module, findings: Findings) -> None:
    """Find class Model and hold its methods against what a grader calls."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if "Model" not in classes:
        given = [alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
        if any((alias.asname or alias.name) == "Model" for alias in given):
            findings.warnings.append(f"{CODE} imports class Model from elsewhere; it was not looked at")
        else:
            findings.whole.append(f"{CODE} has no class Model at its top level")
        return
    methods, foreign = _methods(classes["Model"], classes)
    begin, predict = methods.get("__init__"), methods.get("predict")
    if begin is not None and not _takes(begin, 0):
        findings.whole.append(f"{CODE}: Model.__init__ needs arguments, the grader calls Model()")
    if predict is None and not foreign:
        findings.whole.append(f"{CODE}: class Model has no method predict")
    elif predict is None:
        findings.warnings.append(f"{CODE}: Model.predict comes from a class elsewhere; it was not looked at")
    elif not _takes(predict, 1):
        findings.whole.append(f"{CODE}: Model.predict cannot be called with X alone, as the grader does")


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _methods(wanted: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> tuple[dict[str, Function], bool]:
    """The methods of a class and of those that it is made of in the same file, and whether one is from elsewhere."""
    found: dict[str, Function] = {}
    foreign, waiting, seen = False, [wanted], set()
    while waiting:
        node = waiting.pop(0)
        if node.name in seen:
            continue
        seen.add(node.name)
        for item in node.body:
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                found.setdefault(item.name, item)
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in classes:
                waiting.append(classes[base.id])
            elif not (isinstance(base, ast.Name) and base.id == "object"):
                foreign = True
    return found, foreign


def _takes(method: Function, count: int) -> bool:
    """Whether a method can be called with so many positional arguments; a coroutine gives no labels."""
    if isinstance(method, ast.AsyncFunctionDef):
        return False
    given = method.args
    static = any(isinstance(mark, ast.Name) and mark.id == "staticmethod" for mark in method.decorator_list)
    count += 0 if static else 1
    positional = len(given.posonlyargs) + len(given.args)
    needed = positional - len(given.defaults)
    demanded = any(default is None for default in given.kw_defaults)
    return needed <= count and (count <= positional or given.vararg is not None) and not demanded
