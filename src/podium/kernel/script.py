"""The script that Kaggle runs: plain Python that finds its bundle, installs attached wheels, and hands over to it."""

from __future__ import annotations

import json

NAME = "inference.py"
BUNDLE, BLEND, DECODE = "kernel.json", "blend.json", "decode.json"
"""Files of the data set: what was trained and on what; how models are blended; how labels are made."""
TEXT = '''"""@title@: predicts the test images that are attached and writes the submission, without internet.

Written by `podium kernel`; weights, code and settings lie in the data set @dataset@. Change nothing here: make the
kernel again.
"""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

BUNDLE = @id@
KAGGLE = Path(os.environ.get("PODIUM_KAGGLE_ROOT") or "/kaggle")


def bundle() -> Path:
    """The attached data set that this script was written for."""
    found = [path for place in ("*", "*/*", "datasets/*/*") for path in (KAGGLE / "input").glob(f"{place}/kernel.json")]
    for path in found:
        if json.loads(path.read_text(encoding="utf-8")).get("id") == BUNDLE:
            return path.parent
    held = f"{len(found)} others are" if found else "none is"
    sys.exit(f"the data set @dataset@ of this very kernel ({BUNDLE}) is not attached, {held}; add its latest version")


def absent(line: str) -> bool:
    """Whether a package, as in name==version, is not installed."""
    try:
        return not metadata.version(line.partition("==")[0])
    except metadata.PackageNotFoundError:
        return True


def main() -> int:
    folder = bundle()
    lacking = [line for line in (folder / "needs.txt").read_text(encoding="utf-8").split() if absent(line)]
    if lacking:
        pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--find-links", str(folder), *lacking]
        if subprocess.run(pip, check=False).returncode != 0:
            sys.exit(f"this image lacks {', '.join(lacking)}; put their wheels into the data set (its README says how)")
    code = folder / "podium.pyz"
    sys.path.insert(0, str(code))
    from podium.kernel import infer

    if not str(infer.__file__).startswith(str(code)):
        sys.exit(f"{infer.__file__}: is another podium than the data set's; run this where none is loaded")
    return infer.main(folder, KAGGLE / "working", sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
'''


def script(bundle_id: str, title: str, dataset: str) -> str:
    """The script for one bundle; title and dataset are for people."""
    texts = {"@id@": json.dumps(bundle_id), "@title@": title.replace('"', "'").replace("\\", "/"), "@dataset@": dataset}
    text = TEXT
    for mark, value in texts.items():
        text = text.replace(mark, value)
    return text
