"""The mixture spec: read from TOML, refused with file, key and remedy."""

import json
import re
from pathlib import Path

import pytest

from schemas.errors import UsageError
from schemas.mixture import MixtureSpec, SourceSpec, SplitSpec, WindowSpec, load_spec

GOOD = """
name = "demo"
samples = 20_000
seed = 7
temperature = 0.5

[split]
val = 0.1
salt = "a"

[windows]
observation_s = [-0.1, 0]
action_horizon_s = 0.8
action_hz = 20

[[sources]]
name = "robot"
where = "source = 'robot' AND success"
weight = 3
max_epochs = 2.5

[[sources]]
name = "g1"
floor = 0.1
"""


def test_reads_every_key_and_fills_the_rest(tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text(GOOD)
    spec = load_spec(path)
    assert spec == load_spec(GOOD) == load_spec(str(path))
    assert (spec.name, spec.samples, spec.seed, spec.temperature, spec.statistics) == ("demo", 20_000, 7, 0.5, True)
    assert spec.split == SplitSpec(0.1, "a", "split_group")
    assert spec.windows == WindowSpec((-0.1, 0.0), 0.8, 20, "nearest")
    assert spec.sources[0] == SourceSpec("robot", "source = 'robot' AND success", 3, 2.5, 0.0)
    assert spec.sources[1].selector == "g1"


def test_survives_json_and_equal_specs_have_equal_json():
    spec = load_spec(GOOD)
    assert json.dumps(load_spec(GOOD.replace("weight = 3", "weight = 3.0")).to_dict()) == json.dumps(spec.to_dict())
    assert MixtureSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("samples = 20_000", ""), "samples is missing"),
        (("samples = 20_000", "samples = 0"), "samples is 0"),
        (("samples = 20_000", "samples = true"), "samples is True"),
        (("seed = 7", "seed = -1"), "seed is -1"),
        (("seed = 7", "sede = 7"), "sede is unknown; did you mean seed"),
        (("temperature = 0.5", "temperature = 1.5"), "temperature is 1.5"),
        (("temperature = 0.5", 'temperature = "hot"'), "temperature is 'hot'"),
        (('name = "demo"', 'name = "De mo"'), "name is 'De mo'"),
        (("val = 0.1", "val = 1.0"), "split.val is 1.0"),
        (("val = 0.1", "val = nan"), "split.val is nan"),
        (('salt = "a"', 'by = "scene"'), "split.by is 'scene'"),
        (('salt = "a"', "slat = 1"), "split.slat is unknown; did you mean salt"),
        (("observation_s = [-0.1, 0]", 'observation_s = "0"'), "windows.observation_s is '0'"),
        (("observation_s = [-0.1, 0]", "observation_s = [true]"), "windows.observation_s is True"),
        (("action_hz = 20", "action_hz = 0"), "windows.action_hz is 0"),
        (("action_hz = 20", 'match = "floor"'), "windows.match is 'floor'"),
        (("weight = 3", "weight = 0"), "sources.robot.weight is 0"),
        (("weight = 3", "weight = inf"), "sources.robot.weight is inf"),
        (("weight = 3", "wieght = 3"), "sources[0].wieght is unknown; did you mean weight"),
        (("max_epochs = 2.5", "max_epochs = 0"), "sources.robot.max_epochs is 0"),
        (("floor = 0.1", "floor = 1"), "sources.g1.floor is 1"),
        (('name = "g1"', 'name = "robot"'), "['robot'] appear more than once"),
        (('name = "g1"', ""), "sources[1].name is missing"),
        (("weight = 3", "floor = 0.95"), "add up to 1.05"),
    ],
)
def test_says_what_is_wrong_and_where(change, says, tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(UsageError) as caught:
        load_spec(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_other_refusals(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        load_spec(tmp_path / "absent.toml")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_spec("name = = 3")
    with pytest.raises(UsageError, match=r"add at least one \[\[sources\]\]"):
        load_spec('name = "a"\nsamples = 1')
    with pytest.raises(UsageError, match="two brackets"):
        load_spec('name = "a"\nsamples = 1\n[sources]\nname = "x"')
    with pytest.raises(UsageError, match="split is 3; it must be a table"):
        load_spec('name = "a"\nsamples = 1\nsplit = 3\n[[sources]]\nname = "x"')


@pytest.mark.parametrize("page", ["README.md", "docs/mixtures.md"])
def test_documented_examples_are_specs(page):
    text = (Path(__file__).resolve().parents[2] / page).read_text(encoding="utf-8")
    examples = re.findall(r"```toml\n(name = .*?)```", text, re.DOTALL)
    assert examples
    assert all(load_spec(example).sources for example in examples)


def test_a_first_spec_keeps_its_json():
    """Mixtures pinned before a key existed keep their hash: keys that say nothing are not written."""
    body = load_spec(GOOD).to_dict()
    assert list(body) == ["name", "samples", "sources", "seed", "temperature", "split", "windows", "statistics"]
    assert list(body["sources"][0]) == ["name", "where", "weight", "max_epochs", "floor"]
    assert list(body["windows"]) == ["observation_s", "action_horizon_s", "action_hz", "match"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ('unit = "words"', "unit is 'words'"),
        ('tokenizer = "t.json"', "tokenizer is set but unit is 'samples'"),
        ("image_frames = -1", "image_frames is -1"),
        ("image_frames = 4\nstatistics = false", "image_frames is set but statistics is false"),
        ("group = 0", "group is 0"),
        ("group = 3", "does not hold whole groups of 3"),
        ("group = 2\n[locality]\nwindow = 4", "choose one of them"),
        ("[weights]\nscore = 1", "two brackets, once per weight"),
        ("[[weights]]\nform = 'log'", "name either a score"),
        ("[[weights]]\nscore = 's'\nsources = ['robt']", "did you mean robot"),
        ("[resampling]\nmin_ess = 2", "resampling.min_ess is 2"),
        ("[resampling]\nby = 'scene'", "resampling.by is 'scene'"),
        ("[windows.dropout]\nlanguage = -1", "windows.dropout.language is -1"),
    ],
)
def test_later_keys_are_checked_too(more, says):
    top, tables = (more, "") if not more.startswith("[") else ("", more)
    text = f'name = "a"\nsamples = 20_000\n{top}\n[[sources]]\nname = "robot"\n{tables}'
    if "[locality]" in top:
        text = text.replace("[locality]\nwindow = 4", "") + "\n[locality]\nwindow = 4"
    with pytest.raises(UsageError) as caught:
        load_spec(text)
    assert says in str(caught.value)
