"""What of pyproject's ranges this interpreter lacks, told from metadata alone: nothing heavy is imported.

python environment.py check [dev]       prints, as half a sentence, what is lacking; exit code 1 where anything is
python environment.py complete [dev]    for hosted notebooks: installs just that, with the pins of requirements.txt

``dev`` asks for the tools of the tests as well. Exit codes of ``complete``: 2 where pip failed, 3 where the Python is
better left alone, since what lies outside the range is torch or something else that the notebook is built on.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib import invalidate_caches, metadata
from pathlib import Path

try:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name
except ImportError:  # whatever has our dependencies has it too
    print("lacks nearly everything (not even packaging is there)")
    sys.exit(1)

ROOT = Path(__file__).resolve().parents[1]
FOUNDATIONS = frozenset({"torch", "torchvision", "numpy", "scipy", "pandas"})  # never replaced under a running notebook
OPENCV = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")  # each holds the same cv2


def wanted(need: str) -> list[Requirement]:
    """pyproject's dependencies, with those of the extra ``dev`` where ``need`` is ``dev``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] + (project["optional-dependencies"]["dev"] if need == "dev" else [])
    return [Requirement(line) for line in lines]


def installed(name: str) -> str | None:
    """The version of a distribution, or None. Any OpenCV counts as the headless one."""
    for candidate in (name, *OPENCV) if canonicalize_name(name) == "opencv-python-headless" else (name,):
        try:
            if version := metadata.version(candidate):
                return version
        except (metadata.PackageNotFoundError, KeyError):  # absent, or the remains of an uninstallation
            continue
    return None


def unmet(requirements: Iterable[Requirement]) -> list[Requirement]:
    """Those that are meant for this interpreter and are absent or outside their range."""
    found = []
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed(requirement.name)
        # A build of a coming version (2.9.0a0+vendor) is what some machines have.
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            found.append(requirement)
    return found


def describe(requirements: Iterable[Requirement]) -> str:
    """``lacks ttach; has pandas 2.1.0 instead of >=2.2``."""
    absent = [requirement.name for requirement in requirements if installed(requirement.name) is None]
    other = [
        f"{requirement.name} {version} instead of {requirement.specifier}"
        for requirement in requirements
        if (version := installed(requirement.name)) is not None
    ]
    parts = [f"lacks {', '.join(absent)}"] if absent else []
    return "; ".join(parts + ([f"has {', '.join(other)}"] if other else []))


def needs_of(name: str) -> list[Requirement]:
    """What an installed distribution says that it needs."""
    found = []
    for line in metadata.requires(name) or []:
        try:
            found.append(Requirement(line))
        except InvalidRequirement:  # old metadata; pip reads it no better
            continue
    return found


def pins() -> dict[str, str]:
    """requirements.txt: name → ``name==version``."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines())
    return {canonicalize_name(Requirement(line).name): line for line in lines if line}


def complete(need: str) -> int:
    """Install what is lacking and, in turn, what that lacks, each alone (``--no-deps``), so that nothing else moves."""
    pinned = pins()
    todo = unmet(wanted(need))
    rounds = 0
    while todo:
        if fixed := [requirement for requirement in todo if canonicalize_name(requirement.name) in FOUNDATIONS]:
            tell(f"{sys.executable} {describe(fixed)}; a notebook's own is not replaced, a new environment is used")
            return 3
        exact = sorted({pinned.get(canonicalize_name(requirement.name), str(requirement)) for requirement in todo})
        tell(f"installing into this notebook's Python: {' '.join(exact)}")
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-input", "--disable-pip-version-check"]
        done = subprocess.run([*command, *exact], capture_output=True, text=True, check=False)
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        rounds += 1
        if done.returncode != 0 or rounds > 9:
            reason = errors[-1] if errors else f"exit code {done.returncode}"
            tell(f"pip could not install {' '.join(exact)} ({reason}); is the notebook's internet access switched on?")
            return 2
        invalidate_caches()
        todo = unmet(line for requirement in todo for line in needs_of(requirement.name))
    return 0


def tell(text: str) -> None:
    """To stderr, like everything that is not a result."""
    print(f"podium: {text}", file=sys.stderr, flush=True)


def main(action: str, need: str = "run") -> int:
    """The exit code."""
    if action == "complete":
        return complete(need)
    lacking = unmet(wanted(need))
    if lacking:
        print(describe(lacking))
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
