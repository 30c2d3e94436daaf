"""The mixture spec: read from TOML, refused with file, key and remedy."""

import json

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
