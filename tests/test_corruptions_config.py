"""What ``validation`` may say, and that the operations that judge are not those that train."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import albumentations
import pytest
from pydantic import ValidationError

from podium import config_augment, config_mix
from podium.config_augment import AugmentSettings
from podium.config_file import validate
from podium.config_validation import COLOUR, GEOMETRY, KINDS, RELATIVES, Corruptions, Validation, unseen
from podium.corruptions.amounts import AMOUNTS
from podium.errors import UserError

DOCS = Path(__file__).parent.parent / "docs" / "robust.md"


def read(raw: dict[str, Any]) -> Validation:
    return validate(Validation, raw, Path("blood.yaml"))


def refused(raw: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        read(raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_and_lists_as_a_file_writes_them() -> None:
    assert read({}) == Validation() and read({}).corruptions is None and read({}).choose_by == "clean"
    assert read({"corruptions": {}}).corruptions == Corruptions()
    raw = {"corruptions": {"kinds": ["jpeg", "fog"], "strengths": [5, 1], "copies": 3, "seed": 7, "at_most": 500}}
    found = read(raw | {"choose_by": "corrupted"})
    assert found.corruptions is not None and found.choose_by == "corrupted"
    assert found.corruptions.kinds == ("jpeg", "fog") and found.corruptions.strengths == (5, 1)
    assert Validation.model_validate(json.loads(found.model_dump_json())) == found
    with pytest.raises(ValidationError):
        found.corruptions.copies = 4


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"corruptions": {"kinds": ["gausian_blur"]}}, "'gausian_blur' is not allowed; did you mean 'gaussian_blur'?"),
        ({"corruptions": {"kinds": ["jpeg", "fog", "jpeg"]}}, "jpeg'?: is named 2 times; name every kind once"),
        ({"corruptions": {"kinds": []}}, "kinds': .*at least 1"),
        ({"corruptions": {"strengths": [1, 6]}}, "strengths.1': .*less than or equal to 5, found 6"),
        ({"corruptions": {"strengths": [3, 3]}}, "3'?: is named 2 times; name every strength once"),
        ({"corruptions": {"copies": 0}}, "copies': .*greater than 0"),
        ({"corruptions": {"copies": True}}, "copies': .*valid integer"),
        ({"corruptions": {"at_most": 0}}, "at_most': .*greater than 0"),
        ({"corruptions": {"kind": ["jpeg"]}}, "unknown key 'corruptions.kind'; did you mean 'kinds'?"),
        ({"choose_by": "corrupted"}, "choose_by': 'corrupted' needs validation.corruptions"),
        ({"choose_by": "both"}, "'both' is not allowed"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(raw: dict[str, Any], said: str) -> None:
    assert re.search(said, refused(raw))


def test_colour_is_for_three_channels() -> None:
    asked = Corruptions(kinds=("jpeg", "hue_shift"))
    assert asked.misfit(3) is None and asked.fitting(3) == ("jpeg", "hue_shift")
    for channels in (1, 2, 4):
        problem = asked.misfit(channels)
        assert (
            problem is not None and f"hue_shift needs images of 3 channels, these have {channels}; remove it" in problem
        )
        with pytest.raises(ValueError, match="hue_shift needs"):
            asked.fitting(channels)
        assert Corruptions().misfit(channels) is None
        assert set(Corruptions().fitting(channels)) == set(KINDS) - COLOUR
    assert Corruptions().fitting(3) == KINDS


def test_what_judges_is_not_what_trains() -> None:
    """No name in common, and of each kind it is known which training operations resemble it."""
    trained = {*config_augment.NAMES, *config_mix.NAMES}
    assert not trained & set(KINDS)
    assert not set(vars(albumentations)) & set(KINDS)
    assert set(RELATIVES) == set(AMOUNTS) == set(KINDS) and set(KINDS) > COLOUR | GEOMETRY
    for name in {name for names in RELATIVES.values() for name in names}:
        assert name in trained or issubclass(getattr(albumentations, name), albumentations.BasicTransform), name


def test_kinds_that_a_recipe_never_saw_the_like_of() -> None:
    plain = AugmentSettings.model_validate({"batch": ["flip_h"]})
    assert unseen(KINDS, plain) == KINDS
    batch = ["affine", "noise", {"name": "random", "count": 1, "of": ["cutout", "colour"]}]
    per_image = [{"name": "OneOf", "transforms": [{"name": "ImageCompression"}, {"name": "MotionBlur"}]}]
    augment = AugmentSettings.model_validate({"batch": batch, "per_image": per_image})
    seen = COLOUR | {"rotation", "shear", "zoom", "gaussian_noise", "occlusion", "jpeg", "motion_blur"}
    assert unseen(KINDS, augment) == tuple(kind for kind in KINDS if kind not in seen)
    assert unseen(("fog", "jpeg"), augment) == ("fog",)


def test_the_page_says_how_much_is_done() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert {kind: tuple(float(part) for part in row.split(", ")) for kind, row in rows.items()} == AMOUNTS


def test_the_page_says_what_is_nearest_in_training() -> None:
    text = DOCS.read_text(encoding="utf-8")
    found = dict(re.findall(r"^\| `(\w+)` \| .* \| (?:`(\w+)` )?\|$", text, re.MULTILINE))
    batch = {kind: [name for name in names if name in config_augment.NAMES] for kind, names in RELATIVES.items()}
    assert found == {kind: "".join(names) for kind, names in batch.items()}
    assert f"{sum(not names for names in batch.values())} of its {len(KINDS)} kinds have nothing like them" in text


def test_asking_for_copies_imports_no_heavy_library() -> None:
    """The command line reads settings, and the parent process asks for copies, without torch."""
    heavy = {"podium.config_validation": ["numpy", "cv2", "torch"], "podium.corruptions.apart": ["cv2", "torch"]}
    for module, names in heavy.items():
        code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in {names}))"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, module
