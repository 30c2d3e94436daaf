"""Windows over signals that keep clocks of their own, beside the steps of the same sample."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from catalog.lake import Lake
from pipelines.loader.fields import fields_of, reach_of
from pipelines.loader.load import load
from pipelines.mixture.mix import mix
from pipelines.shards.draft import build_streams
from pipelines.sources.base import SourceOptions
from schemas.contract import Contract, Stream
from schemas.errors import UsageError
from schemas.mixture import MixtureSpec, SourceSpec, StreamSpec, WindowSpec
from tests.support.toys import SECOND, ToySource, ingest_toy

FORCE = StreamSpec((-0.1, -0.02, 0.0), latency_s=0.01, oldest_s=0.2)
STREAMS = (Stream("force", ("fx", "fy")), Stream("sound"), Stream("secret", ("s",), privileged=True), Stream("said"))


def samples_of(index: int):
    """Times and values of an episode's force: about 130 Hz, irregular, with a hole of 0.3 s and a sample before the first step."""
    rng = np.random.default_rng(index)
    times = np.cumsum(rng.integers(2_000_000, 13_000_000, 90)) - 30_000_000
    times = times[(times < 200_000_000) | (times > 500_000_000)]
    return times, np.stack([times / SECOND, np.arange(len(times))], 1)


class Sensed(ToySource):
    def contract(self):
        return replace(super().contract(), streams=STREAMS)

    def episode(self, index):
        times, values = samples_of(index)
        spoken = {"text": ["take it"], "end_ns": np.array([SECOND])}
        streams = [
            ("force", times, {"values": values}), ("secret", times[:3], {"values": values[:3, :1]}),
            ("said", np.array([0]), spoken),
        ]  # fmt: skip
        if index == 0:
            streams.append(("sound", np.array([0, 100_000_000]), {"values": np.arange(8.0).reshape(2, 4)}))
        return replace(super().episode(index), streams=build_streams(streams))


@pytest.fixture(scope="module")
def sensed(tmp_path_factory):
    lake = Lake.at(tmp_path_factory.mktemp("sensed") / "lake")
    ingest_toy(lake, Sensed(options=SourceOptions("sensed"), lengths=(12, 9)))
    ingest_toy(lake, ToySource(options=SourceOptions("deaf"), lengths=(10,)))
    return lake


def check_force(sample, index: int) -> None:
    """From the definition, one sample of the signal at a time."""
    times, values = samples_of(index)
    now = round(float(sample["timestamp"]) * 20) * SECOND // 20
    for k, offset in enumerate((-100_000_000, -20_000_000, 0)):
        known = [n for n, t in enumerate(times) if t + 10_000_000 <= now + offset]
        age = (now + offset - times[known[-1]]) / SECOND if known else 0.0
        pad = not known or age > 0.2
        assert bool(sample["stream.force_is_pad"][k]) == pad
        want = np.zeros(2) if pad else values[known[-1]]
        assert sample["stream.force"][k].tolist() == pytest.approx(want.tolist(), abs=1e-6)
        assert float(sample["stream.force_staleness_s"][k]) == pytest.approx(0 if pad else age, abs=1e-6)


def test_a_window_over_a_stream_is_that_of_its_clock(sensed):
    dataset = load("sensed", sensed, windows=WindowSpec(observation_s=(-0.1, 0.0), streams={"force": FORCE}), keys=None)
    held = 0
    for at, sample in enumerate(dataset.__getitems__(range(len(dataset)))):
        check_force(sample, 0 if at < 12 else 1)
        held += int(sample["stream.force_is_pad"].sum())
        assert sample["observation.state"].shape == (2, 4)
        assert not [k for k in sample if "secret" in k or "sound" in k]
    assert held > 4  # the hole and the beginning
    mapped = load("sensed", sensed, windows={"stream.force": (-0.05, 0.0)})[7]
    assert mapped["stream.force"].shape == (2, 2)


def test_streams_are_part_of_batches_and_specs(sensed):
    """Datasets and episodes without the signal are padded; the spec survives its hash and its file."""
    streams = {"sound": StreamSpec((0.0,)), "force": FORCE}
    windows = WindowSpec(streams=streams)
    spec = MixtureSpec("both", 31, (SourceSpec("sensed"), SourceSpec("deaf")), windows=windows, statistics=False)
    assert MixtureSpec.from_dict(spec.to_dict()) == spec
    assert "streams" not in replace(spec, windows=WindowSpec()).to_dict()["windows"]
    mix(sensed, spec)
    dataset = load("both", sensed)
    batch = next(iter(DataLoader(dataset, batch_sampler=dataset.batches(31), collate_fn=dataset.collate)))
    assert batch["stream.force"].shape == (31, 3, 2)
    assert batch["stream.sound"].shape == (31, 1, 4)  # as wide as it is, though its contract does not say
    deaf = torch.tensor([d == "deaf" for d in batch["dataset"]])
    assert batch["stream.force_is_pad"][deaf].all()
    assert not batch["stream.force"][deaf].any()
    sounding = ~batch["stream.sound_is_pad"].all(1)
    assert 0 < sounding.sum() < (~deaf).sum()  # one episode of two
    assert {tuple(v.tolist()) for v in batch["stream.sound"][sounding, 0]} <= {(0, 1, 2, 3), (4, 5, 6, 7)}
    threaded = next(iter(dataset.loader(31, threads=1)))
    assert torch.equal(threaded["stream.force"], batch["stream.force"])


def test_what_is_asked_for_must_be_there(sensed):
    with pytest.raises(UsageError, match=r"did you mean stream\.force"):
        load("sensed", sensed, windows=WindowSpec(streams={"forces": FORCE}))
    secret = WindowSpec(streams={"secret": StreamSpec((0.0,))})
    assert "stream.secret" not in load("sensed", sensed, windows=secret)[3]
    assert load("sensed", sensed, windows=secret, keys=["stream.secret"])[3]["stream.secret"].shape == (1, 1)
    assert "stream.said" not in load("sensed", sensed, windows=WindowSpec(streams={"said": StreamSpec((0.0,))}))[0]  # only text
    contract = Contract("d", "robot", "arm", 20.0, streams=STREAMS)
    assert reach_of(fields_of(contract, WindowSpec(streams={"force": StreamSpec((-9.0,))}))) == (0,)  # no step is dropped for it
    raw = {"name": "m", "samples": 1, "sources": [{"name": "a"}]}
    for streams, says in (
        ({"force": {}}, r"windows\.streams\.force\.offsets_s is missing"), ({"force": {"offsets_s": []}}, "at least one offset"),
        ({"force": {"offsets_s": [0.0], "latency_s": -1}}, "seconds, 0 or more"), (3, r"\[windows.streams.NAME\]"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=says):
            MixtureSpec.from_dict(raw | {"windows": {"streams": streams}})


def test_samples_of_changing_width_have_no_window(tmp_path):
    class Changing(Sensed):
        def episode(self, index):
            parts = [("force", np.array([0]), {"values": np.ones((1, 2))}), ("force", np.array([9]), {"values": np.ones((1, 3))})]
            return replace(super().episode(index), streams=build_streams(parts))

    lake = Lake.at(tmp_path / "lake")
    ingest_toy(lake, Changing(options=SourceOptions("changing"), lengths=(4,)))
    with pytest.raises(UsageError, match=r"stream force of .* samples of 2 to 3 values"):
        load("changing", lake, windows=WindowSpec(streams={"force": FORCE}))[1]
