"""How a recipe writes its augmentation, and what is said where it is written wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from podium.config import Recipe
from podium.config_augment import NAMES, AugmentSettings, Random, Single, steps
from podium.config_file import load_recipe
from podium.errors import UserError

NET = "net: {name: residual_unet, widths: [4, 8]}\n"


def load(folder: Path, batch: str) -> AugmentSettings:
    path = folder / "net.yaml"
    path.write_text(NET + "augment:\n  batch:\n" + "".join(f"    - {line}\n" for line in batch.splitlines()))
    return load_recipe(path).augment


def refused(folder: Path, batch: str) -> str:
    with pytest.raises(UserError) as caught:
        load(folder, batch)
    text = str(caught.value)
    assert text.startswith(f"{folder / 'net.yaml'}: ")
    return text.removeprefix(f"{folder / 'net.yaml'}: ")


def test_operations_by_name_and_with_options_in_their_order(tmp_path: Path) -> None:
    found = load(tmp_path, "flip_h\n{name: contrast, p: 1, factor: [0.5, 2]}\n{name: affine, rotate: [-5, 5]}\nturn90")
    assert [item.name for item in found.batch] == ["flip_h", "contrast", "affine", "turn90"]
    assert [item.p for item in found.batch] == [0.5, 1.0, 0.5, 0.75]
    flip, contrast, affine, _ = (item.model_dump() for item in found.batch)
    assert flip == {"name": "flip_h", "p": 0.5}
    assert contrast["factor"] == (0.5, 2.0)
    assert (affine["rotate"], affine["scale"], affine["fill"]) == ((-5.0, 5.0), (0.9, 1.1), "reflect")


def test_every_operation_has_a_name_and_works_without_options(tmp_path: Path) -> None:
    models = [*get_args(Single), Random]
    assert tuple(model.model_fields["name"].default for model in models) == NAMES
    found = load(tmp_path, "\n".join(name for name in NAMES if name != "random"))
    assert [item.name for item in found.batch] == [name for name in NAMES if name != "random"]


def test_what_is_written_out_reads_the_same_again(tmp_path: Path) -> None:
    """Recipes travel to workers as JSON, and runs keep them as YAML."""
    found = load(tmp_path, "affine\n{name: random, strength: 0.5, of: [blur, {name: noise, std: [0, 0.1]}, cutout]}")
    raw = found.model_dump(mode="json")
    assert AugmentSettings.model_validate(raw) == found
    recipe = Recipe.model_validate({"name": "net", "net": {"name": "small_cnn"}, "augment": raw})
    assert recipe.augment == found
    path = tmp_path / "again.yaml"
    path.write_text(NET + yaml.safe_dump({"augment": raw}))
    assert load_recipe(path).augment == found


def test_a_list_replaces_that_of_the_parent(tmp_path: Path) -> None:
    load(tmp_path, "flip_v\nblur")
    child = tmp_path / "child.yaml"
    child.write_text("like: net\naugment: {batch: [noise]}\n")
    assert [item.name for item in load_recipe(child).augment.batch] == ["noise"]
    assert load_recipe(child, ["augment.batch=[]"]).augment.batch == ()
    assert [item.name for item in load_recipe(child, ["augment.batch=[flip_h, gamma]"]).augment.batch] == [
        "flip_h",
        "gamma",
    ]


def test_random_is_written_out_at_its_strength() -> None:
    random = {
        "name": "random",
        "strength": 0.25,
        "of": [{"name": "contrast", "factor": [0.6, 2.0]}, "flip_h", "cutout"],
    }
    settings = AugmentSettings.model_validate({"batch": ["flip_v", random, "turn90"]})
    found = steps(settings.batch)
    assert [[item.name for item in step] for step in found] == [
        ["flip_v"],
        ["contrast"],
        ["flip_h"],
        ["cutout"],
        ["turn90"],
    ]
    (contrast,), (cutout,) = found[1], found[3]
    assert contrast.model_dump()["factor"] == pytest.approx((0.9, 1.25))
    assert cutout.model_dump()["size"] == pytest.approx((0.025, 0.075))
    assert {item.p for step in found[1:4] for item in step} == {1.0}


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ("flip", "key 'augment.batch.0.name': 'flip' is not allowed; did you mean 'flip_v'?"),
        ("{p: 1}", "key 'augment.batch.name': an operation has none; write it as in {name: contrast, "),
        ("flip_h\n{name: contrast, factr: [1, 2]}", "unknown key 'augment.batch.1.factr'; did you mean 'factor'? allowed: "),
        ("{name: flip_h, factor: [1, 2]}", "unknown key 'augment.batch.0.factor'; "),
        ("{name: flip_h, p: 0}", "key 'augment.batch.0.p': input should be greater than 0, found 0"),
        ("{name: flip_h, p: 1.5}", "key 'augment.batch.0.p': input should be less than or equal to 1, found 1.5"),
        ("{name: contrast, factor: 0.1}", "key 'augment.batch.0.factor': input should be a valid array, found 0.1"),
        ("{name: contrast, factor: [0.9]}", "key 'augment.batch.0.factor.1' is missing"),
        ("{name: contrast, factor: [1.1, 0.9]}", "key 'augment.batch.0.factor': [1.1, 0.9] runs downwards; write it as [0.9, 1.1]"),
        ("{name: contrast, factor: [1, 1]}", "key 'augment.batch.0.factor': changes nothing in this range; widen it or "),
        ("{name: contrast, factor: [-1, 1]}", "key 'augment.batch.0.factor.0': input should be greater than or equal to 0, found -1"),
        ("{name: contrast, factor: ['1', 2]}", "key 'augment.batch.0.factor.0': input should be a valid number, found '1'"),
        ("{name: affine, fill: edge}", "key 'augment.batch.0.fill': 'edge' is not allowed; "),
        ("{name: affine, scale: [0, 1]}", "key 'augment.batch.0.scale.0': input should be greater than or equal to 0.05, found 0"),
        (
            "{name: affine, fill: mean}\nflip_h\naffine",
            "key 'augment.batch.affine.fill': those that stand together are one step; give them the same fill",
        ),
        ("{name: cutout, count: 0}", "key 'augment.batch.0.count': input should be greater than 0, found 0"),
        ("{name: random}", "key 'augment.batch.0.of' is missing"),
        ("{name: random, of: [blur]}", "key 'augment.batch.0.of': "),
        ("{name: random, of: [blur, gamma]}", "key 'augment.batch.0.count': 2 of 2 operations leaves nothing to draw; name more "),
        (
            "{name: random, of: [blur, gamma, {name: noise, p: 0.5}]}",
            "key 'augment.batch.0.of.2.p': how often noise is done follows from count; remove p",
        ),
        ("{name: random, of: [blur, gama, noise]}", "key 'augment.batch.0.of.1.name': 'gama' is not allowed; did you mean 'gamma'?"),
        ("{name: random, count: 1, strength: 0.5, of: [flip_h, flip_v]}", "key 'augment.batch.0.strength': none of these "),
        ("{name: random, of: [blur, noise, {name: random, of: [blur, noise, gamma]}]}", "key 'augment.batch.0.of.2.name': 'random' is not"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_place(tmp_path: Path, batch: str, said: str) -> None:
    assert refused(tmp_path, batch).startswith(said)


def test_affine_maps_apart_may_have_fills_of_their_own(tmp_path: Path) -> None:
    assert len(load(tmp_path, "{name: affine, fill: mean}\nblur\naffine").batch) == 3


def test_the_flat_fields_are_no_more(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(NET + "augment: {flip_h: 0.5}\n")
    with pytest.raises(UserError, match="unknown key 'augment.flip_h'; .*allowed: batch, per_image"):
        load_recipe(path)


def test_by_default_images_are_mirrored() -> None:
    batch: Any = AugmentSettings().model_dump(mode="json")["batch"]
    assert batch == [{"p": 0.5, "name": "flip_h"}]
