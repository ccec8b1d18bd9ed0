"""Settings: what is read is what was written, and every mistake is one sentence with file, key and way out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from podium.config import Competition, Recipe, check_rules
from podium.config_file import find, load_competition, load_recipe, read_yaml, split_overrides
from podium.errors import UserError
from podium.workspace import find_workspace

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
COMPETITION: dict[str, Any] = {
    "name": "moon",
    "task": "segmentation",
    "data": {
        "format": "npz",
        "file": "moon.npz",
        "train": {"key": "a", "image": 0, "target": 1},
        "test": {"key": "b"},
        "shape": [4, 6],
    },
    "classes": ["nothing", "dust", "rock"],
    "unscored": "nothing",
    "metric": {"name": "mean_iou"},
    "submission": {"format": "wide_csv"},
    "models": ["net"],
}
NET = "net: {name: residual_unet, widths: [4, 8], dropout: 0.25}\n"


def competition(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "moon.yaml"
    path.write_text(yaml.safe_dump(COMPETITION | changes))
    return path


def recipe(tmp_path: Path, text: str, name: str = "net") -> Path:
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    return path


def refused(path: Path, *overrides: str) -> str:
    """The sentence with which a file is refused; it begins with the file."""
    load = load_competition if path.stem == "moon" else load_recipe
    with pytest.raises(UserError) as caught:
        load(path, overrides)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ") and "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("path", sorted((CONFIGS / "competitions").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_competitions_load_and_their_models_exist_and_keep_the_rules(path):
    loaded = load_competition(path)
    assert loaded.name == path.stem
    for model in loaded.models:
        check_rules(loaded, load_recipe(find(CONFIGS / "models", model, "model")))
    assert Competition.model_validate(loaded.model_dump(mode="json")) == loaded


@pytest.mark.parametrize("path", sorted((CONFIGS / "models").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_load_and_survive_json(path):
    loaded = load_recipe(path)
    assert loaded.name == path.stem
    assert Recipe.model_validate(loaded.model_dump(mode="json")) == loaded


def test_a_competition_is_read_as_written(tmp_path):
    loaded = load_competition(competition(tmp_path))
    assert loaded.classes == ("nothing", "dust", "rock")
    assert loaded.scored == (1, 2) and loaded.unscored_index == 0
    assert loaded.data.shape == (4, 6) and str(loaded.metric) == "mean_iou (keras)" and loaded.folds.count == 5


def test_without_an_unscored_class_all_are_scored(tmp_path):
    loaded = load_competition(competition(tmp_path, unscored=None))
    assert loaded.scored == (0, 1, 2) and loaded.unscored_index is None


def test_scientific_notation_is_a_number(tmp_path):
    text = NET + "train: {lr: 1e-3, weight_decay: 2E-2, clip: 1e+1}\n"
    loaded = load_recipe(recipe(tmp_path, text))
    assert (loaded.train.lr, loaded.train.weight_decay, loaded.train.clip) == (0.001, 0.02, 10.0)


def test_settings_cannot_be_changed_after_reading(tmp_path):
    loaded = load_recipe(recipe(tmp_path, NET))
    with pytest.raises(ValidationError):
        loaded.train.epochs = 7
    with pytest.raises(ValidationError):
        loaded.name = "other"


def test_anchors_may_be_merged(tmp_path):
    text = "train: &t {epochs: 3, batch: 2}\n" + NET
    assert load_recipe(recipe(tmp_path, text.replace("&t {", "&t {<<: {lr: 1e-4}, "))).train.lr == 1e-4


# ---------------------------------------------------------------- mistakes


def test_an_unknown_key_is_named_with_its_nearest_spelling(tmp_path):
    said = refused(competition(tmp_path, clases=["a"]))
    assert said.startswith("unknown key 'clases'; did you mean 'classes'? allowed: name, task, ")


def test_an_unknown_nested_key_is_named_with_its_path_and_its_sisters(tmp_path):
    said = refused(recipe(tmp_path, NET + "train: {epoch: 3}\n"))
    assert said.startswith("unknown key 'train.epoch'; did you mean 'epochs'? allowed: epochs, min_epochs, batch, ")
    data = COMPETITION["data"] | {"train": {"key": "a", "image": 0, "target": 1, "tagret": 1}}
    said = refused(competition(tmp_path, data=data))
    assert said == "unknown key 'data.train.tagret'; did you mean 'target'? allowed: key, image, target"


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train: {epochs: many}", "train.epochs", "'many'"),
        ("train: {epochs: 2.5}", "train.epochs", "2.5"),
        ("train: {epochs: 0}", "train.epochs", "0"),
        ("train: {epochs: true}", "train.epochs", "True"),
        ("train: {epochs: '5'}", "train.epochs", "'5'"),
        ("train: {lr: .inf}", "train.lr", "inf"),
        ("train: [3]", "train", "[3]"),
        ("augment: {batch: [{name: flip_h, p: 1.5}]}", "augment.batch.0.p", "1.5"),
        ("loss: {weight_cap: }", "loss.weight_cap", "None"),
        ("loss: 2024-01-31", "loss", "'2024-01-31'"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(tmp_path, text, key, value):
    said = refused(recipe(tmp_path, NET + text + "\n"))
    assert said.startswith(f"key '{key}': ") and said.endswith(f", found {value}")


def test_a_missing_key_is_named(tmp_path):
    assert refused(recipe(tmp_path, "train: {epochs: 3}\n")) == "key 'net' is missing"
    data = {key: value for key, value in COMPETITION["data"].items() if key != "file"}
    assert refused(competition(tmp_path, data=data)) == "key 'data.file' is missing"


def test_a_word_that_is_not_allowed_is_named_with_those_that_are(tmp_path):
    said = refused(competition(tmp_path, metric={"name": "mean_iou", "convention": "kearas"}))
    wanted = "did you mean 'keras'? allowed: keras, foreground, masked"
    assert said == f"key 'metric.convention': 'kearas' is not allowed; {wanted}"
    said = refused(recipe(tmp_path, NET + "predict: {views: [identity, rot18]}\n"))
    wanted = "did you mean 'rot180'? allowed: identity, hflip, vflip, rot180, rot90, rot270, transpose, antitranspose"
    assert said == f"key 'predict.views.1': 'rot18' is not allowed; {wanted}"


def test_an_unscored_class_that_does_not_exist(tmp_path):
    said = refused(competition(tmp_path, unscored="nothin"))
    assert said == "key 'unscored': 'nothin' is not a class; did you mean 'nothing'? allowed: nothing, dust, rock"


def test_a_class_or_view_named_twice(tmp_path):
    assert refused(competition(tmp_path, classes=["nothing", "dust", "dust"])).startswith("key 'classes': every class")
    said = refused(recipe(tmp_path, NET + "predict: {views: [hflip, hflip]}\n"))
    assert said.startswith("key 'predict.views': every view")


def test_training_data_need_a_target(tmp_path):
    data = COMPETITION["data"] | {"train": {"key": "a", "image": 0}}
    assert refused(competition(tmp_path, data=data)).startswith("key 'data.train.target': missing")


@pytest.mark.parametrize(
    ("net", "said"),
    [
        ("{name: unet}", "key 'net.encoder': missing; a net 'unet' needs it"),
        (
            "{name: residual_unet, widths: [4, 8], encoder: resnet18}",
            "key 'net.encoder': does nothing for a net 'residual_unet'; remove it",
        ),
        (
            "{name: residual_unet, widths: [4, 8], pretrained: required}",
            "key 'net.pretrained': does nothing for a net 'residual_unet'; remove it",
        ),
        (
            "{name: unet, encoder: resnet18, widths: [4, 8]}",
            "key 'net.widths': does nothing for a net 'unet'; remove it",
        ),
        (
            "{name: unet, encoder: resnet18, dropout: 0.1}",
            "key 'net.dropout': does nothing for a net 'unet'; remove it",
        ),
        ("{name: plain_unet, heads: 2}", "key 'net.heads': does nothing for a net 'plain_unet'; remove it"),
        ("{name: cnn5, widths: [4, 8]}", "key 'net.widths': cnn5 has five convolutions, found 2 widths"),
        (
            "{name: small_object_unet, widths: [4, 8, 8, 8]}",
            "key 'net.widths': small_object_unet halves the resolution twice at most, found 4 widths",
        ),
        (
            "{name: gated_unet, widths: [4, 8, 8], deep: 2}",
            "key 'net.deep': 3 widths leave the decoder 1 levels below full resolution, found 2",
        ),
        (
            "{name: transformer_unet, widths: [4, 6]}",
            "key 'net.widths': the last one must be a multiple of 4 and of heads (4), found 6",
        ),
        (
            "{name: unet, encoder: resnet18, pretrained: true}",
            "key 'net.pretrained': true is now called required, or if_available; write that, or the path of a file of "
            "weights",
        ),
        (
            "{name: unet, encoder: resnet18, pretrained: false}",
            "key 'net.pretrained': false is now called never; write that, or the path of a file of weights",
        ),
        (
            "{name: unet, encoder: resnet18, pretrained: weights/mine}",
            "key 'net.pretrained': 'weights/mine' is no file of weights (.safetensors, .pth, .pt, .bin) and no word that is "
            "known; allowed: never, if_available, required",
        ),
    ],
)
def test_an_option_that_the_net_lacks_or_needs(tmp_path, net, said):
    assert refused(recipe(tmp_path, f"net: {net}\n")) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\nb: 2\n", "not valid YAML"),
        ("train: {epochs: 3, epochs: 4}\n" + NET, "key 'epochs' is given twice"),
        (NET + NET, "key 'net' is given twice"),
        ("", "holds NoneType where a mapping"),
        ("- 3\n", "holds list where a mapping"),
        ("? [a, b]\n: 3\n", "key ['a', 'b'] is not text"),
        (NET + "yes: 3\n", "key True is not text"),
        (NET + "loss: 2024-13-45\n", "not valid YAML"),
        ("a: \x00\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping(tmp_path, text, said):
    assert said in refused(recipe(tmp_path, text))


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.yaml: cannot be read"):
        read_yaml(tmp_path / "latin.yaml")


def test_yaml_makes_no_objects(tmp_path):
    said = refused(recipe(tmp_path, "net: !!python/object/apply:os.getcwd []\n"))
    assert said.startswith("not valid YAML")


def test_a_name_is_found_or_its_nearest_spelling_given(tmp_path):
    path = recipe(tmp_path, NET, "residual")
    assert find(tmp_path, "residual", "model") == path
    with pytest.raises(UserError, match="no model 'residul' in .*; did you mean 'residual'"):
        find(tmp_path, "residul", "model")


def test_pretrained_weights_that_the_rules_forbid(tmp_path):
    loaded = load_recipe(recipe(tmp_path, "net: {name: unet, encoder: resnet18, pretrained: if_available}\n"))
    check_rules(load_competition(competition(tmp_path)), loaded)
    strict = load_competition(competition(tmp_path, rules={"pretrained": "forbidden"}))
    with pytest.raises(
        UserError, match="recipe 'net': net.pretrained is if_available, but moon's rules say 'pretrained: forb"
    ):
        check_rules(strict, loaded)


# ---------------------------------------------------------------- like


def test_like_takes_the_other_recipe_as_defaults(tmp_path):
    recipe(tmp_path, NET + "train: {epochs: 9, batch: 5}\naugment: {batch: [flip_v, noise]}\n", "base")
    child = load_recipe(recipe(tmp_path, "like: base\ntrain: {epochs: 2}\nnet: {dropout: 0.5}\n"))
    assert child.name == "net"
    assert (child.train.epochs, child.train.batch, [item.name for item in child.augment.batch]) == (
        2,
        5,
        ["flip_v", "noise"],
    )
    assert (child.net.widths, child.net.dropout) == ((4, 8), 0.5)


def test_like_with_another_net_takes_none_of_its_options(tmp_path):
    recipe(tmp_path, NET + "train: {epochs: 9}\n", "base")
    child = load_recipe(recipe(tmp_path, "like: base\nnet: {name: fpn, encoder: resnet18}\n"))
    assert child.net.identity() == {"name": "fpn", "encoder": "resnet18", "pretrained": "never"}
    assert child.train.epochs == 9


def test_like_goes_from_one_to_the_next(tmp_path):
    recipe(tmp_path, NET + "train: {epochs: 9, batch: 5, lr: 0.1}\n", "base")
    recipe(tmp_path, "name: middle\nlike: base\ntrain: {batch: 6, lr: 0.2}\n", "middle")
    child = load_recipe(recipe(tmp_path, "like: middle\ntrain: {lr: 0.3}\n"))
    assert (child.name, child.train.epochs, child.train.batch, child.train.lr) == ("net", 9, 6, 0.3)


def test_like_in_a_circle(tmp_path):
    recipe(tmp_path, "like: net\n", "middle")
    said = refused(recipe(tmp_path, "like: middle\n"))
    assert said == "key 'like': the recipes inherit in a circle (net → middle → net); take one 'like' out"


def test_like_itself_or_nobody(tmp_path):
    assert refused(recipe(tmp_path, "like: net\n")).startswith(
        "key 'like': the recipes inherit in a circle (net → net)"
    )
    for other in ("nat", "a/b", "[net]"):
        said = refused(recipe(tmp_path, f"like: {other}\n"))
        assert said.startswith("key 'like': there is no recipe ") and said.endswith("allowed: net")


@pytest.mark.parametrize("text", ["like: base\nnet: unet\n", "like: broken\nnet: {name: unet, encoder: resnet18}\n"])
def test_like_with_a_net_that_is_no_mapping(tmp_path, text):
    recipe(tmp_path, NET, "base")
    recipe(tmp_path, "net: 3\n", "broken")
    path = recipe(tmp_path, text)
    if "broken" in text:
        assert load_recipe(path).net.name == "unet"
    else:
        assert refused(path).startswith("key 'net': ")


def test_a_recipe_is_called_as_its_file(tmp_path):
    assert load_recipe(recipe(tmp_path, "name: net\n" + NET)).name == "net"
    assert refused(recipe(tmp_path, "name: other\n" + NET)).startswith("key 'name': ")


# ---------------------------------------------------------------- --set


def test_set_overrides_any_value(tmp_path):
    path = recipe(tmp_path, NET + "train: {epochs: 9, batch: 5}\n")
    loaded = load_recipe(path, ["train.epochs=2", "train.lr=3e-4", "net.widths=[2, 4, 6]", "predict.views=[hflip]"])
    assert (loaded.train.epochs, loaded.train.batch, loaded.train.lr) == (2, 5, 3e-4)
    assert loaded.net.widths == (2, 4, 6) and loaded.net.dropout == 0.25 and loaded.predict.views == ("hflip",)
    assert load_recipe(path, ["train.epochs=2", "train.epochs=3"]).train.epochs == 3
    assert load_competition(competition(tmp_path), ["folds.count=3", "unscored=null"]).scored == (0, 1, 2)


@pytest.mark.parametrize("text", ["train.epochs", "=3", "train.=3", ".epochs=3", "train..epochs=3"])
def test_a_malformed_set_says_what_is_expected(tmp_path, text):
    with pytest.raises(UserError, match=re.escape(f"--set {text}: expected key.key=value")):
        load_recipe(recipe(tmp_path, NET), [text])


def test_a_set_value_that_is_no_yaml(tmp_path):
    for value in ("[1", "2024-13-45"):
        with pytest.raises(UserError, match=re.escape(f"--set train.epochs={value}: '{value}' is not a YAML value")):
            load_recipe(recipe(tmp_path, NET), [f"train.epochs={value}"])


def test_a_set_is_checked_like_the_file(tmp_path):
    assert refused(recipe(tmp_path, NET), "train.epoch=3").startswith("unknown key 'train.epoch'; did you mean")
    assert refused(recipe(tmp_path, NET), "train=3").startswith("key 'train': ")
    assert refused(recipe(tmp_path, NET), "net.encoder=resnet18").startswith("key 'net.encoder': does nothing")


def test_sets_are_sorted_by_their_first_key():
    texts = ["train.epochs=3", "folds.count=4", "net.dropout=0", "unscored=null"]
    assert split_overrides(texts) == (["folds.count=4", "unscored=null"], ["train.epochs=3", "net.dropout=0"])


@pytest.mark.parametrize(
    ("text", "near"), [("trian.epochs=3", "train"), ("fold.count=3", "folds"), ("name=x", ""), ("nonsense", "")]
)
def test_a_set_of_nobody_is_refused(text, near):
    with pytest.raises(UserError, match=re.escape(f"--set {text}: unknown key")) as caught:
        split_overrides([text])
    assert "allowed: net, loss, " in str(caught.value)
    assert near == "" or f"did you mean '{near}'?" in str(caught.value)


# ---------------------------------------------------------------- workspace


def test_the_workspace_is_found_and_results_go_where_asked(tmp_path, monkeypatch):
    (tmp_path / "configs" / "competitions").mkdir(parents=True)
    monkeypatch.delenv("PODIUM_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert find_workspace().out == tmp_path.resolve()
    monkeypatch.chdir("/")
    assert find_workspace().root == CONFIGS.parent  # the checkout of this code
    monkeypatch.setenv("PODIUM_ROOT", str(tmp_path))
    found = find_workspace(tmp_path / "out")
    assert found.root == tmp_path.resolve() and found.runs("moon") == tmp_path.resolve() / "out" / "runs" / "moon"
    monkeypatch.setenv("PODIUM_ROOT", str(tmp_path / "configs"))
    with pytest.raises(UserError, match="no folder configs/competitions in .*PODIUM_ROOT"):
        find_workspace()
