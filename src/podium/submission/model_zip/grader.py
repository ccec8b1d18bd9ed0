"""Runs a ``model.py`` as a grader would, where nothing but the standard library, numpy and onnxruntime can be imported.

    python -I grader.py ORDER ANSWERS

in the folder of the model. Nothing of podium is imported: this is a script for a fresh interpreter. ORDER is a folder with
``images.npy`` (n, height, width, channels) and ``order.json``: ``paths``, where numpy and onnxruntime lie, and ``cases``,
each a ``dtype`` and a number of ``images``. Into ANSWERS come ``labels<i>.npy`` and ``probabilities<i>.npy`` of each case,
and ``facts.json``: seconds that the first case took, and the most memory that the process ever had, in bytes.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

ALLOWED = ("numpy", "onnxruntime")


class OnlyAllowed(MetaPathFinder):
    """Stands before all that finds modules, and lets nothing else be found."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None, so that the others look for it; an ImportError for what a grader does not have."""
        top = fullname.partition(".")[0]
        if top in ALLOWED or top in sys.stdlib_module_names:
            return None
        raise ModuleNotFoundError(f"No module named '{fullname}' where only {' and '.join(ALLOWED)} are", name=fullname)


def main(order: Path, answers: Path) -> None:
    """Carry out an order."""
    asked = json.loads((order / "order.json").read_text(encoding="utf-8"))
    sys.path += [path for path in asked["paths"] if path not in sys.path]
    sys.meta_path.insert(0, OnlyAllowed())
    import numpy as np

    spec = importlib.util.spec_from_file_location("model", Path.cwd() / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["model"] = module
    spec.loader.exec_module(module)
    model = module.Model()
    images = np.load(order / "images.npy", allow_pickle=False)
    model.predict(images[:1])  # the first call pays for what is set up only once
    seconds = 0.0
    for i, case in enumerate(asked["cases"]):
        given = images[: case["images"]].astype(case["dtype"])
        kept = given.copy()
        began = time.perf_counter()
        labels = model.predict(given)
        seconds = seconds or time.perf_counter() - began
        if not np.array_equal(given, kept):
            raise ValueError("predict changes the images that it is given")
        np.save(answers / f"labels{i}.npy", np.asarray(labels), allow_pickle=False)
        np.save(answers / f"probabilities{i}.npy", model.probabilities(given), allow_pickle=False)
    facts = {"seconds": seconds, "memory": _most_memory()}
    (answers / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _most_memory() -> int:
    """Bytes; of this process alone, while ``ru_maxrss`` may be that of the one that started it."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
