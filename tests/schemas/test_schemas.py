"""Ids, contracts, shard metadata and registries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import Camera, Contract, Feature, Part, overlay
from schemas.errors import ContractError, DependencyError, UnknownNameError
from schemas.ids import canonical_json, digest, episode_id, is_slug, unit_id
from schemas.registry import Registry
from schemas.shards import CodecHeader, TrackInfo, decode_tracks, encode_tracks, steps_schema
from schemas.tables import TABLES

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(), x, max_size=4),
)


def contract() -> Contract:
    return Contract(
        "toy", "sim", "arm", 20.0,
        features=(
            Feature("action", "float32", (4,), ("x", "y", "z", "g"), role="action", parts=(Part("gripper", 3, 4, gripper_open=1.0),)),
            Feature("note", "string", ()),
            Feature("done", "bool", (1,)),
        ),
        cameras=(Camera("front", intrinsics=(1.0,) * 9), Camera("wrist")),
        split_keys=("scene",),
    )  # fmt: skip


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_canonical_json_ignores_key_order(value: dict) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def test_ids_are_stable_and_depend_on_everything() -> None:
    assert episode_id("toy", "0") == "ep-060cc5a4f4cb156ffd4e"
    assert (
        len({unit_id(*a) for a in [("s", 1, 2, "1"), ("t", 1, 2, "1"), ("s", 2, 2, "1"), ("s", 1, 3, "1"), ("s", 1, 2, "2")]})
        == 5
    )


def test_nan_has_no_id() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))


@pytest.mark.parametrize(
    ("name", "good"), [("g1_v30", True), ("a.b-c", True), ("../x", False), ("", False), ("A", False), ("a/b", False)]
)
def test_slugs(name: str, good: bool) -> None:
    assert is_slug(name) is good


def test_contract_survives_json() -> None:
    assert Contract.from_json(contract().to_json()) == contract()


def test_contract_rejects_unknown_keys() -> None:
    with pytest.raises(ContractError, match="unknown keys"):
        Contract.from_json(contract().to_json().replace('"kind"', '"sort"'))


def test_overlay_adds_what_the_source_does_not_say() -> None:
    changed = overlay(
        contract(), {"licence": "MIT", "features": {"action": {"unit": "m"}}, "cameras": {"front": {"role": "ego"}}}
    )
    assert (changed.licence, changed.feature("action").unit, changed.cameras[0].role) == ("MIT", "m", "ego")


@pytest.mark.parametrize("raw", [{"features": {"nope": {}}}, {"features": {"action": {"shape": [3]}}}, {"dataset": "x"}])
def test_overlay_refuses_what_it_may_not_change(raw: dict) -> None:
    with pytest.raises(ContractError):
        overlay(contract(), raw)


def test_action_spaces_are_never_pooled_across_robots() -> None:
    other = Contract("t", "sim", "leg", 20.0, features=contract().features)
    assert contract().action_space != other.action_space


def test_steps_schema_has_one_frame_column_per_camera() -> None:
    schema = steps_schema(contract())
    assert [n for n in schema.names if n.startswith("frame.")] == ["frame.front", "frame.wrist"]
    assert str(schema.field("action").type) == "fixed_size_list<item: float>[4]"


def test_track_list_survives_metadata() -> None:
    header = CodecHeader("h264", extradata=b"\x01\xff", init=b"abc", time_base=(1, 90))
    tracks = [TrackInfo(f"ep-{i}", "front", i, i * 10, 10, 9, "c", header) for i in range(3)]
    assert decode_tracks(encode_tracks(tracks)) == tracks


def test_every_table_says_who_wrote_a_row() -> None:
    assert all({"unit", "committed_ns", *t.key} <= set(t.schema.names) for t in TABLES.values())


def test_registry_suggests_the_nearest_name() -> None:
    registry = Registry("source", "cotrain.none", {"lerobot": "json:loads", "broken": "no_such_package.x:Y"})
    with pytest.raises(UnknownNameError, match="did you mean lerobot"):
        registry.load("lerobott")
    with pytest.raises(DependencyError, match="no_such_package"):
        registry.load("broken")
    assert registry.load("lerobot")("1") == 1
