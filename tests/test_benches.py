"""``podium bench``: what fits the machine, what is wrong with what was asked for, failures among the rest, the summary."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podium import benches
from podium.bench_scripts import Here, lacking, read_script, read_scripts
from podium.benches import Figure, Result, read_figures, run, summary
from podium.errors import UserError
from project import SOURCE

REAL = SOURCE.parent / "bench"
SMALL = Here(gpus=0, cores=2, memory_gb=4.0)

SCRIPT = '''"""{about}

More about it.
"""
import argparse, json, sys

NEEDS = {needs}

parser = argparse.ArgumentParser()
parser.add_argument("--out")
parser.add_argument("--quick", action="store_true")
{options}
args = parser.parse_args()
print("arguments:", " ".join(sys.argv[1:]))
{body}
'''
WRITE = 'json.dump({"ratios": [{"name": "speed", "value": 2.0, "wanted": [">=", 1.5]}]}, open(args.out, "w"))'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """bench/ of a project of its own on a small machine, still empty; its out/ is there."""
    (tmp_path / "configs" / "competitions").mkdir(parents=True)
    (tmp_path / "bench" / "out").mkdir(parents=True)
    monkeypatch.setenv("PODIUM_ROOT", str(tmp_path))
    monkeypatch.setattr(benches, "here", lambda: SMALL)
    return tmp_path / "bench"


def put(
    folder: Path, name: str, body: str = WRITE, needs: str = "()", options: str = "", about: str = "About."
) -> Path:
    path = folder / f"{name}.py"
    path.write_text(SCRIPT.format(about=about, needs=needs, options=options, body=body))
    return path


# ---------------------------------------------------------------- what a script says about itself


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("()", ()),
        ('("cuda",)', (("gpus", 1.0),)),
        ('("memory_gb", 8)', (("memory_gb", 8.0),)),
        ('("cuda", "cores", 4, "memory_gb", 1.5)', (("gpus", 1.0), ("cores", 4.0), ("memory_gb", 1.5))),
    ],
)
def test_needs_are_read(folder: Path, text: str, needs: tuple[tuple[str, float], ...]) -> None:
    script = read_script(put(folder, "x", needs=text, about="One line."))
    assert (script.needs, script.problem, script.about, script.name) == (needs, "", "One line.", "x")
    assert script.takes == {"--out", "--quick"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('("memory_gb",)', "'memory_gb' lacks its number"),
        ('("memory", 3)', "did you mean 'memory_gb'?"),
        ("free_memory()", "NEEDS"),
    ],
)
def test_needs_that_cannot_be_understood(folder: Path, text: str, said: str) -> None:
    assert said in read_script(put(folder, "x", needs=text)).problem


def test_the_text_is_read_and_not_run(folder: Path) -> None:
    (folder / "x.py").write_text('"""X."""\nNEEDS = ("cuda",)\nraise SystemExit("was run")\n')
    (folder / "y.py").write_text('"""Y."""\n')
    (folder / "z.py").write_text("NEEDS = (\n")
    (folder / "_helper.py").write_text("")
    x, y, z = read_scripts(folder)
    assert x.needs == (("gpus", 1.0),) and not x.problem
    assert "y.py has no NEEDS" in y.problem
    assert "z.py cannot be read" in z.problem


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ((), ""),
        ((("cores", 2.0), ("memory_gb", 4.0)), ""),
        ((("gpus", 1.0),), "needs 1 NVIDIA GPU, here are 0"),
        ((("memory_gb", 8.0),), "needs 8 GB of free memory, here are 4"),
        ((("gpus", 2.0), ("cores", 3.0)), "needs 2 NVIDIA GPUs, here are 0; needs 3 processor cores, here are 2"),
    ],
)
def test_what_the_machine_lacks(needs: tuple[tuple[str, float], ...], said: str) -> None:
    assert lacking(needs, SMALL) == said


# ---------------------------------------------------------------- running


def test_one_that_fails_and_one_that_does_not_fit_stop_no_other(folder: Path) -> None:
    put(folder, "a", "raise SystemExit('no luck today')")
    put(folder, "b")
    put(folder, "c", needs='("cuda",)')
    put(folder, "d", "pass")
    (folder / "e.py").write_text("import")
    lines: list[str] = []
    a, b, c, d, e = run(say=lines.append)
    assert [one.status for one in (a, b, c, d, e)] == ["failed", "done", "left out", "failed", "failed"]
    assert a.reason == "it ended with exit code 1: no luck today"
    assert b.figures == (Figure("speed", 2.0, (">=", 1.5)),) and b.file == str(folder / "out" / "b.json")
    assert b.seconds > 0 and c.seconds == 0
    assert c.reason == "needs 1 NVIDIA GPU, here are 0" and f"left out: {c.reason}" in lines
    assert d.reason == "it wrote no d.json" and d.file is None
    assert "e.py cannot be read" in e.reason
    assert "== b: About." in lines and "arguments: --out bench/out/b.json" in lines
    assert lines[-len(summary([a, b, c, d, e])) :] == summary([a, b, c, d, e])


def test_only_those_that_are_asked_for_in_their_order_and_once(folder: Path) -> None:
    for name in "abc":
        put(folder, name)
    assert [one.name for one in run(["c", "a", "c"], say=lambda line: None)] == ["c", "a"]


def test_an_unknown_name_is_refused_before_anything_runs(folder: Path) -> None:
    put(folder, "reading")
    put(folder, "loop")
    with pytest.raises(UserError, match="bench readin: .* did you mean 'reading'\\? allowed: loop, reading"):
        run(["loop", "readin"], say=lambda line: pytest.fail(f"it ran: {line}"))


def test_an_old_result_is_not_taken_for_a_new_one(folder: Path) -> None:
    put(folder, "a", "pass")
    (folder / "out" / "a.json").write_text('{"ratios": [{"name": "old", "value": 1, "wanted": null}]}')
    (result,) = run(say=lambda line: None)
    assert (result.status, result.figures) == ("failed", ())


def test_results_of_one_that_fails_after_writing_are_kept(folder: Path) -> None:
    put(folder, "a", f"{WRITE}\nsys.stdout.flush()\nimport os; os.kill(os.getpid(), 9)")
    (result,) = run(say=lambda line: None)
    assert result.status == "failed" and "signal 9" in result.reason


def test_options_are_passed_to_those_that_take_them(folder: Path, tmp_path: Path) -> None:
    (folder / "out" / "quick").mkdir()
    put(folder, "a", options='parser.add_argument("--data")')
    put(folder, "b")
    lines: list[str] = []
    results = run(quick=True, data=tmp_path, say=lines.append)
    assert [one.status for one in results] == ["done", "done"]
    assert f"arguments: --out bench/out/quick/a.json --quick --data {tmp_path}" in lines
    assert "arguments: --out bench/out/quick/b.json --quick" in lines
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (result,) = run(["b"], elsewhere, say=lines.append)
    assert result.file == str(elsewhere / "b.json")
    with pytest.raises(UserError, match="--data .*nowhere: no such folder"):
        run(data=tmp_path / "nowhere", say=lines.append)


def test_an_installed_package_has_no_benchmarks(folder: Path) -> None:
    (folder / "out").rmdir()
    folder.rmdir()
    with pytest.raises(UserError, match="bench: no such folder; .* checkout"):
        run(say=lambda line: None)


def test_the_parent_does_not_import_torch() -> None:
    code = "import sys, podium.benches as b; b.here(); assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


# ---------------------------------------------------------------- figures


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure("x", 0.95, (">=", 0.95)), True),
        (Figure("x", 0.94, (">=", 0.95)), False),
        (Figure("x", 2.0, ("<", 2.0)), False),
        (Figure("x", 2.0, ("<=", 2.0)), True),
        (Figure("x", None, ("<", 2.0)), None),
        (Figure("x", 2.0), None),
    ],
)
def test_as_wanted(figure: Figure, met: bool | None) -> None:
    assert figure.met is met


def test_the_summary() -> None:
    figures = (Figure("real / plain", 2.512, (">=", 2.0)), Figure("seconds", 12345.6, ("<", 600.0)))
    results = [
        Result("loop", "done", 61.4, (*figures, Figure("on a GPU", None, (">=", 5.0)), Figure("share", 0.25))),
        Result("pack", "failed", 3.0, (Figure("old", 1.0),), "it ended with exit code 1: a long sentence about it"),
        Result("graphs", "left out", reason="needs 1 NVIDIA GPU, here are 0"),
    ]
    assert summary(results) == [
        "benchmark  seconds  figure               value  wanted  met",
        "-----------------------------------------------------------",
        "loop            61  real / plain          2.51  ≥ 2     yes",
        "                    seconds             12,346  < 600   NO",
        "                    on a GPU      not measured  ≥ 5",
        "                    share                 0.25",
        "pack             3  failed: it ended with exit code 1: a long sentence about it",
        "                    old                      1",
        "graphs              left out: needs 1 NVIDIA GPU, here are 0",
    ]


def test_figures_are_those_that_the_scripts_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REAL))
    import _machine

    file = tmp_path / "out" / "x.json"
    _machine.write_results(file, {"table": [1]}, [_machine.ratio("a", 1, (">=", 0.5)), _machine.ratio("b", None)])
    assert read_figures(file) == (Figure("a", 1.0, (">=", 0.5)), Figure("b", None))
    whole = json.loads(file.read_text())
    assert whole["results"] == {"table": [1]} and {"cpu", "cores", "versions", "date", "command"} <= set(
        whole["machine"]
    )
    assert not whole["quick"]


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"ratios": [{"name": "x"}]}', '{"ratios": [{"name": "x", "value": 1, "wanted": ["~", 1]}]}'],
)
def test_results_of_another_form(tmp_path: Path, content: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(ValueError, match="x.json: its ratios are not as write_results makes them"):
        read_figures(file)


def test_rounds_alternate_and_the_first_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REAL))
    import _machine

    calls: list[str] = []

    def variant(name: str) -> int:
        calls.append(name)
        return len(calls)

    variants = {name: partial(variant, name) for name in "ab"}
    found = _machine.alternate(variants, 2)
    assert calls == ["b", "a", "a", "b", "b", "a"]
    assert found == {"a": [3, 6], "b": [4, 5]}
    assert _machine.median_ratio([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == 3.0


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["aten::mkldnn_convolution", "aten::conv2d"], "convolution, forward"),
        (["aten::copy_", "aten::_to_copy", "aten::conv2d"], "casts and copies"),
        (["aten::convolution_backward", "ConvolutionBackward0"], "convolution, backward"),
        (["aten::empty", "ConvolutionBackward0"], "convolution, backward"),
        (["aten::add_", "autograd::engine::evaluate_function: ConvolutionBackward0"], "additions"),
        (["aten::cudnn_batch_norm_backward"], "batch norm"),
        (["aten::clamp_min_", "aten::relu_"], "activation"),
        (["aten::threshold_backward"], "activation"),
        (["aten::upsample_bilinear2d"], "pooling, enlarging, dropout"),
        (["aten::addmm", "aten::linear"], "matrix products"),
        (["aten::nll_loss2d_forward", "aten::cross_entropy_loss"], "loss"),
        (["aten::_fused_adamw_", "Optimizer.step#AdamW.step"], "optimiser"),
        (["aten::mul_", "aten::_foreach_mul_"], "optimiser"),
        (["aten::lerp_", "aten::_foreach_lerp_", "bench: average"], "average"),
        (["aten::index", "bench: data and augmentation"], "data and augmentation"),
        (["aten::index"], "other"),
    ],
)
def test_kinds_of_operations(monkeypatch: pytest.MonkeyPatch, names: list[str], kind: str) -> None:
    monkeypatch.syspath_prepend(str(REAL))
    import profiler

    assert profiler.kind_of(names) == kind


def test_time_is_that_of_the_operations_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel on the GPU is the time of the operation that launched it, and does not count again by itself."""
    monkeypatch.syspath_prepend(str(REAL))
    import profiler
    from torch.autograd import DeviceType

    def event(name: str, on_cpu: float, on_gpu: float, parent: Any = None, device: Any = DeviceType.CPU) -> Any:
        times = {"self_cpu_time_total": on_cpu, "self_device_time_total": on_gpu}
        return SimpleNamespace(name=name, cpu_parent=parent, device_type=device, **times)

    outer = event("aten::conv2d", 1.0, 0.0)
    inner = event("aten::cudnn_convolution", 2.0, 50.0, outer)
    step = event("Optimizer.step#AdamW.step", 4.0, 20.0)
    odd = event("aten::roll", 8.0, 0.0)
    events = [outer, inner, step, odd, event("void cudnn::kernel", 0.0, 50.0, None, DeviceType.CUDA)]
    on_cpu = {"other": 8.0, "optimiser": 4.0, "convolution, forward": 3.0}
    assert profiler.sort(events, cuda=False) == (on_cpu, {"aten::roll": 8.0})
    assert profiler.sort(events, cuda=True) == ({"convolution, forward": 50.0, "optimiser": 20.0}, {})


# ---------------------------------------------------------------- the real ones


@pytest.mark.parametrize("path", sorted(REAL.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_a_real_script(path: Path) -> None:
    script = read_script(path)
    assert not script.problem
    assert script.about
    assert {"--out", "--quick"} <= script.takes
    # bench/ comes first where a script looks for modules: one called as the library's own would be found in its place
    assert script.name not in sys.stdlib_module_names
    assert f"| `{script.name}` |" in (REAL / "README.md").read_text()


def test_a_light_script_explains_itself() -> None:
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, str(REAL / "pack.py"), "--help"], capture_output=True, text=True, check=True, env=environment
    )
    assert "--quick" in done.stdout and "--out" in done.stdout
