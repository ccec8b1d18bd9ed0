"""The set-up scripts, run for real in a small copy of the checkout whose "packages" are wheels of a few lines."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import packaging
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("ruff", "mypy", "pytest")
PYPROJECT = """
[project]
dependencies = ["torch>=2.4,<2.13", "numpy>=2", "ttach>=0.0.3", "packaging"]
[project.optional-dependencies]
dev = ["pytest>=8", "ruff", "mypy"]
"""
PINS = "torch==2.12.1  # a remark\nnumpy==2.4.6\n\nttach==0.0.3\npackaging==26.3\nsix==1.17.0\n"
PODIUM = """
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), "root": os.environ["PODIUM_ROOT"], "exe": sys.executable}))
sys.exit(int(os.environ.get("EXIT", "0")))
"""


def make_checkout(folder: Path) -> Path:
    """The real scripts around a podium that prints how it was called."""
    for name in ("run_cv.sh", "run_tests.sh"):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "requirements.txt").write_text(PINS + "".join(f"{name}==9.0\n" for name in TOOLS))
    (folder / "src" / "podium").mkdir(parents=True)
    (folder / "src" / "podium" / "__init__.py").touch()
    (folder / "src" / "podium" / "__main__.py").write_text(PODIUM)
    (folder / "configs" / "competitions").mkdir(parents=True)
    for name in ("cells", "mars"):
        (folder / "configs" / "competitions" / f"{name}.yaml").touch()
    return folder


def make_wheel(folder: Path, name: str, version: str, source: str = "") -> None:
    """A wheel whose one module, run with ``-m``, is ``source``."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": "",
        f"{name}/__main__.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(path, text)


def environment(**more: str) -> dict[str, str]:
    """A plain login's environment, with the interpreter of this test run to make environments with."""
    tidy = ("VIRTUAL_ENV", "CONDA_", "PODIUM_", "COLAB_", "KAGGLE_", "PYTHON", "PIP_")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(tidy)}
    return {**plain, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PODIUM_PYTHON": sys.executable, **more}


def start(script: Path, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """The result of ``bash script arguments``."""
    return start_with(env, script, *arguments, cwd=cwd)


def start_with(
    env: Mapping[str, str], script: Path, *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The same with a whole set of variables."""
    command = ["bash", str(script), *arguments]
    cwd = cwd or script.parent
    return subprocess.run(command, cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=120)


def site_packages(folder: Path) -> Path:
    return next(folder.glob("lib/python3*/site-packages"))


def fake_environment(folder: Path, versions: Mapping[str, str]) -> Path:
    """A virtual environment in which just the metadata of these distributions (and ``packaging``) are installed."""
    venv.create(folder, with_pip=False, symlinks=True)
    target = site_packages(folder)
    shutil.copytree(Path(packaging.__file__).parent, target / "packaging")
    for name, version in {"packaging": packaging.__version__, **versions}.items():
        (target / f"{name}-{version}.dist-info").mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (target / f"{name}-{version}.dist-info" / "METADATA").write_text(metadata)
    return folder


def fake_python(folder: Path, text: str, name: str = "python3") -> str:
    """A PATH on which ``name`` is this shell script and no other Python is found first."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return str(folder)


def bare_path(folder: Path) -> str:
    """A PATH with the tools that the scripts use, but no Python."""
    folder.mkdir()
    for tool in ("bash", "basename", "cut", "dirname", "flock", "grep", "find", "ls", "mkdir", "mv", "readlink"):
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    (folder / "sha256sum").symlink_to(str(shutil.which("sha256sum")))
    return str(folder)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with everything that the small requirements.txt pins; the tools print their arguments."""
    folder = tmp_path_factory.mktemp("wheels")
    for name, version in (("torch", "2.12.1"), ("numpy", "2.4.6"), ("ttach", "0.0.3"), ("six", "1.17.0")):
        make_wheel(folder, name, version)
    make_wheel(folder, "packaging", "26.3")
    for name in TOOLS:
        make_wheel(folder, name, "9.0", f"import sys; print('{name}', sys.argv[1:])")
    return str(folder)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheels: str) -> Path:
    """A checkout whose .venv was made by two starts at the same moment."""
    checkout = make_checkout(tmp_path_factory.mktemp("installed") / "check out")
    command = ["bash", str(checkout / "run_cv.sh"), "mars"]
    starts = [
        subprocess.Popen(
            command, env=environment(PIP_FIND_LINKS=wheels), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=120) for process in starts]
    assert [process.returncode for process in starts] == [0, 0], ends
    assert sum("installed in" in errors for _, errors in ends) == 1, ends
    assert all(json.loads(output)["exe"] == str(checkout / ".venv" / "bin" / "python") for output, _ in ends)
    return checkout


def test_without_a_competition_there_is_usage_and_the_list(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    done = start(checkout / "run_cv.sh")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("usage: bash run_cv.sh COMPETITION")
    assert done.stderr.splitlines()[1:] == ["competitions in configs/competitions: cells mars"]
    assert not (checkout / ".venv").exists()


def test_arguments_folder_and_exit_code_pass_through(installed: Path, tmp_path: Path) -> None:
    arguments = ["mars", "--data", "my data", "--set", 'name="a b"', "", "*", "$HOME", "two\nlines", "-x"]
    (tmp_path / "json.py").write_text("raise RuntimeError('a file of the user stands in for a module')")
    done = start(installed / "run_cv.sh", *arguments, cwd=tmp_path, EXIT="7")
    said = json.loads(done.stdout)
    assert done.returncode == 7
    assert said["argv"] == ["run", *arguments]
    assert (said["cwd"], said["root"]) == (str(tmp_path), str(installed))
    assert done.stderr == ""


def test_given_root_is_kept(installed: Path, tmp_path: Path) -> None:
    assert json.loads(start(installed / "run_cv.sh", "mars", PODIUM_ROOT=str(tmp_path)).stdout)["root"] == str(tmp_path)


def test_second_start_does_without_pip(installed: Path) -> None:
    pip = site_packages(installed / ".venv") / "pip"
    pip.rename(pip.with_name("pip.away"))
    try:
        done = start(installed / "run_cv.sh", "mars")
    finally:
        pip.with_name("pip.away").rename(pip)
    assert (done.returncode, done.stderr) == (0, "")


def test_changed_pins_are_installed_into_the_same_environment(installed: Path, wheels: str, tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    with (checkout / "requirements.txt").open("a") as file:
        file.write("late==1.0\n")
    shared = str(tmp_path / "venv")
    shutil.copytree(installed / ".venv", shared, symlinks=True)

    failed = start(checkout / "run_cv.sh", "mars", PIP_FIND_LINKS=wheels, PODIUM_VENV=shared)
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 2  # what it does, and one sentence
    assert "late==1.0" in failed.stderr and f"{shared}/install.log" in failed.stderr
    assert "installing" not in (Path(shared) / "podium.stamp").read_text()  # nothing was broken: to be tried again

    make_wheel(Path(wheels), "late", "1.0")
    mended = start(checkout / "run_cv.sh", "mars", PIP_FIND_LINKS=wheels, PODIUM_VENV=shared)
    assert (mended.returncode, json.loads(mended.stdout)["exe"]) == (0, f"{shared}/bin/python")
    assert (site_packages(Path(shared)) / "late").is_dir()
    assert start(checkout / "run_cv.sh", "mars", PODIUM_VENV=shared).stderr == ""


def test_interrupted_installation_is_made_anew(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    (checkout / "requirements.txt").write_text("")
    remains = checkout / ".venv" / "lib" / "half-made"
    remains.mkdir(parents=True)
    (checkout / ".venv" / "podium.stamp").write_text("installing\n")
    done = start(checkout / "run_cv.sh", "mars")
    assert done.returncode == 0
    assert "interrupted" in done.stderr
    assert not remains.exists()


def test_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("the only copy")
    done = start(checkout / "run_cv.sh", "mars", PODIUM_VENV=str(tmp_path / "precious"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "is no virtual environment" in done.stderr
    assert [path.name for path in (tmp_path / "precious").iterdir()] == ["thesis.txt"]


def test_a_lock_that_appears_between_two_looks_marks_an_environment(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    (checkout / "requirements.txt").write_text("")
    (checkout / ".venv").mkdir()
    # Every listing finds that another start has just put its lock there.
    script = f'touch "{checkout}/.venv/podium.lock"\nexec {shutil.which("ls")} "$@"'
    path = f"{fake_python(tmp_path / 'tools', script, name='ls')}:{os.environ['PATH']}"
    done = start(checkout / "run_cv.sh", "mars", PATH=path)
    assert (done.returncode, json.loads(done.stdout)["exe"]) == (0, str(checkout / ".venv" / "bin" / "python"))


def test_active_environment_that_satisfies_is_used(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    versions = {"torch": "2.9.0a0+vendor", "numpy": "2.0.2", "ttach": "0.0.3"}
    active = fake_environment(tmp_path / "active", versions)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        done = start_with({name: str(active)}, checkout / "run_cv.sh", "mars")
        assert (json.loads(done.stdout)["exe"], done.stderr) == (str(active / "bin" / "python"), "")
    assert not (checkout / ".venv").exists()


def test_active_environment_that_lacks_packages_stays_as_it_is(installed: Path, tmp_path: Path) -> None:
    active = fake_environment(tmp_path / "active", {"torch": "2.13.0", "numpy": "2.0.2"})
    before = sorted(str(path) for path in active.rglob("*") if "__pycache__" not in path.parts)
    done = start(installed / "run_cv.sh", "mars", VIRTUAL_ENV=str(active))
    assert json.loads(done.stdout)["exe"] == str(installed / ".venv" / "bin" / "python")
    assert done.stderr == (
        f"podium: {active} lacks ttach; has torch 2.13.0 instead of <2.13,>=2.4; "
        f"it is left as it is and {installed / '.venv'} is used\n"
    )
    assert sorted(str(path) for path in active.rglob("*") if "__pycache__" not in path.parts) == before


def test_python_on_the_path_is_used_where_it_satisfies(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    system = fake_environment(tmp_path / "system", {"torch": "2.6.0+cu124", "numpy": "2.0.2", "ttach": "0.0.3"})
    path = f"{system / 'bin'}:{os.environ['PATH']}"
    assert json.loads(start(checkout / "run_cv.sh", "mars", PATH=path).stdout)["exe"] == str(system / "bin" / "python3")


def test_tools_of_the_tests_are_asked_for_by_the_tests_only(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    python = fake_environment(tmp_path / "env", {"torch": "2.6", "numpy": "2.1", "ttach": "0.0.3"}) / "bin" / "python"
    command = [str(python), str(checkout / "scripts" / "environment.py"), "check"]
    assert subprocess.run([*command, "run"]).returncode == 0
    done = subprocess.run([*command, "dev"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "lacks pytest, ruff, mypy\n")


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo 3.9", "podium needs Python 3.11 to 3.14, but python3 is 3.9: install a newer one"),
        ("exit 1", "podium needs Python 3.11 to 3.14, but python3 does not run: install a newer one"),
        (
            'case "$*" in *ensurepip*) exit 1 ;; *version_info*) echo 3.12 ;; *) exit 1 ;; esac',
            "apt install python3.12",
        ),
    ],
    ids=["too old", "none", "no venv module"],
)
def test_python_that_will_not_do_gets_one_sentence(tmp_path: Path, script: str, sentence: str) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    path = fake_python(tmp_path / "bin", script) + ":" + bare_path(tmp_path / "tools")
    done = start(checkout / "run_cv.sh", "mars", PATH=path, PODIUM_PYTHON="")
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert sentence in done.stderr
    assert start(checkout / "run_cv.sh", "mars", PATH=path, PODIUM_PYTHON="").stderr == done.stderr


PIP = """
import pathlib, sys
names = [word for word in sys.argv if "==" in word]
here = pathlib.Path(__file__).parents[1]
(here / "pip.calls").open("a").write(" ".join(sys.argv[1:]) + "\\n")
for name, _, version in (word.partition("==") for word in names):
    (here / f"{name}-{version}.dist-info").mkdir()
    needs = "Requires-Dist: six>=1.16\\nRequires-Dist: torch>=1.0\\n" if name == "ttach" else ""
    text = f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n{needs}"
    (here / f"{name}-{version}.dist-info" / "METADATA").write_text(text)
"""


def make_notebook(folder: Path, torch: str) -> tuple[Path, dict[str, str]]:
    """A hosted notebook's Python without ttach, and the variables that mark such a machine."""
    system = fake_environment(folder, {"torch": torch, "numpy": "2.0.2"})
    (site_packages(system) / "pip").mkdir()
    (site_packages(system) / "pip" / "__main__.py").write_text(PIP)
    return system, {"PATH": f"{system / 'bin'}:{os.environ['PATH']}", "COLAB_RELEASE_TAG": "release-colab"}


def test_hosted_notebook_gets_only_what_it_lacks(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    system, hosted = make_notebook(tmp_path / "system", "2.8.0+cu126")
    for _ in range(2):  # the second start finds everything there
        done = start_with(hosted, checkout / "run_cv.sh", "mars")
        assert json.loads(done.stdout)["exe"] == str(system / "bin" / "python3"), done.stderr
    calls = (site_packages(system) / "pip.calls").read_text().splitlines()
    assert [call.split()[-1] for call in calls] == ["ttach==0.0.3", "six==1.17.0"]  # and, in turn, what that lacks
    assert all("--no-deps" in call.split() for call in calls)
    assert not (checkout / ".venv").exists()


def test_hosted_notebook_whose_torch_is_outside_the_range_is_left_alone(installed: Path, tmp_path: Path) -> None:
    system, hosted = make_notebook(tmp_path / "system", "2.3.1+cu121")
    done = start_with(hosted, installed / "run_cv.sh", "mars")
    assert json.loads(done.stdout)["exe"] == str(installed / ".venv" / "bin" / "python")
    assert "torch 2.3.1+cu121 instead of" in done.stderr
    assert not (site_packages(system) / "pip.calls").exists()


def test_hosted_notebook_without_network_gets_one_sentence(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    system, hosted = make_notebook(tmp_path / "system", "2.8.0+cu126")
    failing = "import sys; sys.exit('ERROR: No matching distribution found for ttach==0.0.3')"
    (site_packages(system) / "pip" / "__main__.py").write_text(failing)
    done = start_with(hosted, checkout / "run_cv.sh", "mars")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("podium: pip could not install ttach==0.0.3 (ERROR: No matching")


SIDE_BY_SIDE = f"'-n', '{min(4, len(os.sched_getaffinity(0)))}', '--dist', 'loadfile'"
"""How whole tiers are run."""


def test_tests_come_in_two_tiers(installed: Path) -> None:
    checks = ["ruff ['check', '.']", "ruff ['format', '--check', '.']", "mypy []"]
    script = installed / "run_tests.sh"
    assert start(script).stdout.splitlines() == [*checks, f"pytest ['-m', 'not slow', {SIDE_BY_SIDE}]"]
    assert start(script, "--all").stdout.splitlines() == [*checks, f"pytest ['-m', '', {SIDE_BY_SIDE}]"]
    assert start(script, "-k", "a or b").stdout.splitlines() == ["pytest ['-m', 'not slow', '-k', 'a or b']"]
    assert start(script, "--all", "tests/x.py").stdout.splitlines() == ["pytest ['-m', '', 'tests/x.py']"]


def test_ci_keeps_its_environment_outside_the_checkout(tmp_path: Path, wheels: str) -> None:
    first, second = (make_checkout(tmp_path / name) for name in ("first", "second"))
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = start_with({**cache, "PIP_FIND_LINKS": wheels}, first / ".ci" / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"pytest ['-m', 'not slow', {SIDE_BY_SIDE}]"
    assert not (first / ".venv").exists()
    assert start_with(cache, second / ".ci" / "run").stderr == ""  # the same pins: nothing to install
    assert len(list((tmp_path / "cache" / "podium").glob("venv-*"))) == 1


def test_pins_lie_within_the_ranges_and_name_no_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = {}
    for line in lines:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9.]+)", line)
        assert match, f"not an exact pin: {line}"
        pins[canonicalize_name(match[1])] = match[2]
    assert len(pins) == len(lines)
    for text in project["dependencies"] + project["optional-dependencies"]["dev"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def test_scripts_and_pyproject_agree_on_the_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = re.search(r"^oldest=(\S+) newest=(\S+)", (ROOT / "scripts" / "environment.sh").read_text(), re.MULTILINE)
    assert bounds
    past = Version(bounds[2])
    assert project["requires-python"] == f">={bounds[1]},<3.{past.minor + 1}"


def test_this_interpreter_satisfies_the_ranges() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "environment.py"), "check", "dev"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
