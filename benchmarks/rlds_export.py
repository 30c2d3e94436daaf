"""RLDS written from JPEG frames: cotrain's exporter against TFDS' own writers, given the same bytes and the same features.

Every run is a process of its own, so that peak memory belongs to it; writers take turns; medians are reported. One episode is
written first, untimed, so that nobody pays for imports. A *frame* is one step with both of its pictures. Memory is given twice:
the process' peak resident size, which counts mapped libraries and the mapped lake, and its peak private part.

    python -m benchmarks.rlds_export [--quick]
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SIDE, QUALITY, FPS = 256, 95, 20
SECOND = 1_000_000_000
WRITERS = ("cotrain", "tfds SequentialWriter", "tfds GeneratorBasedBuilder")
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "NO_GCE_CHECK": "true", "CUDA_VISIBLE_DEVICES": "-1"}


def cases(quick: bool) -> list[dict[str, Any]]:
    """Run the writers; one result row each, with the medians over its runs. `quick` leaves out the slower of the TFDS writers."""
    episodes, length, turns, rounds = (8, 100, 1, 5) if quick else (32, 100, 5, 1)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (WRITERS[:2] if quick else WRITERS)}
    with tempfile.TemporaryDirectory(prefix="cotrain-bench-") as folder:
        build_lake(Path(folder), episodes, length)
        for _ in range(turns):
            for name in found:
                found[name] += _child(name, folder, rounds)
    return [_row(name, runs) for name, runs in found.items() if runs]


def goals(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare cotrain with the fastest of the TFDS writers, in speed and in memory."""
    ours = [r for r in results if r["case"] == "rlds_write" and r["writer"] == "cotrain"]
    theirs = [r for r in results if r["case"] == "rlds_write" and r["writer"] != "cotrain"]
    if not ours or not theirs:
        return []
    best = max(theirs, key=lambda r: r["frames_per_cpu_s"])
    speed, private, resident = (ours[0][key] / best[key] for key in ("frames_per_cpu_s", "peak_private_mb", "peak_rss_mb"))
    return [
        {"name": "rlds_frames_per_cpu_s_ratio", "goal": "> 2.5", "value": round(speed, 2), "met": speed > 2.5},
        {"name": "rlds_peak_private_memory_ratio", "goal": "< 0.1", "value": round(private, 3), "met": private < 0.1},
        {"name": "rlds_peak_rss_ratio", "goal": "< 0.5", "value": round(resident, 3), "met": resident < 0.5},
    ]


def _row(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "case": "rlds_write",
        "writer": name,
        "frames": runs[0]["frames"],
        "mb": runs[0]["mb"],
        "runs": len(runs),
    }
    for key in ("frames_per_cpu_s", "frames_per_s", "peak_rss_mb", "peak_private_mb"):
        values = [run[key] for run in runs]
        row |= {key: round(statistics.median(values), 1), f"{key}_range": [round(min(values), 1), round(max(values), 1)]}
    return row


def _child(name: str, folder: str, rounds: int) -> list[dict[str, Any]]:
    environment = os.environ | QUIET | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.rlds_export", "--run", name, folder, str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        if "No module named 'tensorflow" in done.stderr:
            return []
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# --- the recording both sides read ------------------------------------------------------------------------------------------


def build_lake(folder: Path, episodes: int, length: int) -> None:
    """Write a lake of `episodes` x `length` steps with two JPEG cameras, and its episode rows as JSON."""
    from catalog.lake import Lake
    from catalog.query import select_episodes
    from catalog.tables import Catalog
    from pipelines.executors import Execution
    from pipelines.ingest import IngestStage
    from pipelines.sources.base import SourceOptions
    from pipelines.unit import run_stage

    lake = Lake.at(folder / "lake")
    source = JpegSource(f"{episodes}x{length}", SourceOptions("jpegs"))
    run_stage(IngestStage(lake, source, check="none"), execution=Execution(workers=0))
    rows = select_episodes(Catalog(lake)).to_dicts()
    (folder / "episodes.json").write_text(json.dumps(rows))


@dataclass(frozen=True)
class JpegSource:
    """Robot episodes whose cameras deliver JPEG, as most RLDS sources do."""

    uri: str
    options: Any
    name: str = "jpegs"
    version: str = "1"

    def contract(self) -> Any:
        from schemas.contract import Camera, Contract, Feature

        features = (
            Feature("observation.state", "float32", (8,), role="state"),
            Feature("action", "float32", (7,), role="action"),
        )
        return Contract(
            self.options.dataset, "robot", "arm", float(FPS), features, (Camera("image"), Camera("wrist", role="wrist"))
        )

    def groups(self) -> list[Any]:
        from pipelines.sources.base import Group

        return [Group("all", int(self.uri.split("x")[0]), 1, self.uri, None)]

    def read(self, group: Any) -> Iterator[Any]:  # noqa: ARG002
        from pipelines.shards.draft import EpisodeDraft, TrackDraft, build_steps
        from schemas.shards import CodecHeader

        episodes, length = map(int, self.uri.split("x"))
        header = CodecHeader("mjpeg", width=SIDE, height=SIDE, pix_fmt="yuvj420p")
        films, rng = [_film(camera) for camera in range(2)], np.random.default_rng(1)
        times, order = np.arange(length) * SECOND // FPS, np.arange(length, dtype=np.int32)
        for number in range(episodes):
            tracks = tuple(
                TrackDraft(
                    name, header, order, times, np.ones(length, bool), [film[(number * 7 + i) % len(film)] for i in range(length)]
                )
                for name, film in zip(("image", "wrist"), films, strict=True)
            )
            columns = {"observation.state": rng.normal(size=(length, 8)), "action": rng.normal(size=(length, 7))}
            steps = build_steps(self.contract(), times, columns, language=f"put block {number} in the bowl",
                                frames={"image": order, "wrist": order})  # fmt: skip
            yield EpisodeDraft(str(number), steps, tracks, success=True, uri=f"jpegs://{number}")


def _film(seed: int, count: int = 100) -> list[bytes]:
    import cv2
    import simplejpeg

    rng = np.random.default_rng(seed)
    scene = cv2.resize(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    pictures = []
    for t in range(count):
        picture = scene.astype(np.int16) + rng.integers(-6, 7, scene.shape)
        picture[60:120, t : t + 40] = (20, 200, 30)
        pictures.append(simplejpeg.encode_jpeg(np.clip(picture, 0, 255).astype(np.uint8), QUALITY, "RGB", "420"))
    return pictures


# --- one writer in its own process ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Meter:
    """Time, processor time and private (anonymous) memory of what runs inside it."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    private_mb: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        watcher = threading.Thread(target=self._watch, daemon=True)
        watcher.start()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall_s, self.cpu_s = time.perf_counter() - wall, time.process_time() - cpu
            self._stop.set()
            watcher.join()

    def _watch(self) -> None:
        while True:
            self.private_mb = max(self.private_mb, _private_mb())
            if self._stop.wait(0.02):
                return


def _private_mb() -> float:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def run(name: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Write the dataset `rounds` times with one writer, after a first episode that is not counted."""
    from catalog.lake import Lake
    from pipelines.exporters.base import ExportEpisode, ExportJob
    from pipelines.exporters.rlds.exporter import RldsExporter

    rows = json.loads((folder / "episodes.json").read_text())
    lake = Lake.at(folder / "lake")
    episodes = tuple(ExportEpisode(r["episode_id"], r["dataset"], r["shard"], r) for r in rows)
    contract = episodes[0].open(lake).contract
    results: list[dict[str, Any]] = []
    for part in (episodes[:1], *[episodes] * rounds):
        with tempfile.TemporaryDirectory(dir=folder) as out:
            job = ExportJob(lake, "jpegs", contract, part, Path(out))
            write: Callable[[], Any] = lambda job=job: RldsExporter().export(job)  # noqa: E731
            if name != "cotrain":
                write = _tfds_writer(name, job)
            meter = Meter()
            with meter.running():
                write()
            frames, size = sum(e.row["steps"] for e in part), sum(p.stat().st_size for p in Path(out).rglob("*.tfrecord*"))
            results.append(
                {"frames": frames, "mb": round(size / 1e6), "frames_per_s": frames / meter.wall_s,
                 "frames_per_cpu_s": frames / meter.cpu_s, "peak_private_mb": meter.private_mb,
                 "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
            )  # fmt: skip
    return results[1:]


def _tfds_writer(name: str, job: Any) -> Callable[[], Any]:
    import tensorflow_datasets as tfds

    from pipelines.exporters.rlds.layout import build_layout
    from pipelines.exporters.rlds.pictures import PictureEncoder, picture_pool
    from pipelines.exporters.rlds.records import RecordBuilder
    from pipelines.exporters.rlds.survey import survey
    from pipelines.formats.tfds_features import features_json

    layout = build_layout(job, survey(job))
    declared = job.folder / "features"
    declared.mkdir()
    (declared / "features.json").write_text(features_json(layout.root))
    features = tfds.features.FeaturesDict.from_config(str(declared))
    builder = RecordBuilder(job, layout, PictureEncoder(QUALITY, picture_pool()))

    def examples() -> Iterator[tuple[str, dict[str, Any]]]:
        for episode in job.episodes:
            record = builder.build(episode)
            yield episode.episode_id, _example(record.values, record.steps)

    out = job.folder / "jpegs" / "1.0.0"
    if name == "tfds SequentialWriter":
        return lambda: _sequential(tfds, features, out, examples())
    return lambda: _generator_based(tfds, features, job.folder, examples)


def _example(values: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return the nested form TFDS' encoders take."""
    shaped = {k: v.reshape(steps, -1) if k.endswith(("/state", "/action")) else v for k, v in values.items()}
    step = {k.removeprefix("steps/"): v for k, v in shaped.items() if k.startswith("steps/")}

    def one(t: int) -> dict[str, Any]:
        flat = {k: bytes(v[t]) if isinstance(v, list) else v[t] for k, v in step.items()}
        inner = {k.removeprefix("observation/"): v for k, v in flat.items() if k.startswith("observation/")}
        return {k: v for k, v in flat.items() if "/" not in k} | {"observation": inner}

    about = {k.removeprefix("episode_metadata/"): v[0] for k, v in values.items() if k.startswith("episode_metadata/")}
    return {"steps": [one(t) for t in range(steps)], "episode_metadata": about}


def _sequential(tfds: Any, features: Any, out: Path, examples: Iterator[tuple[str, dict[str, Any]]]) -> None:
    out.mkdir(parents=True)
    version = tfds.core.Version("1.0.0")
    identity = tfds.core.dataset_info.DatasetIdentity(name="jpegs", version=version, data_dir=str(out), module_name="jpegs")
    info = tfds.core.DatasetInfo(builder=identity, description="d", features=features)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=16, overwrite=True)
    writer.initialize_splits(["train"])
    for _, example in examples:
        writer.add_examples({"train": [example]})
    writer.close_all()


def _generator_based(tfds: Any, features: Any, folder: Path, examples: Callable[[], Any]) -> None:
    class Jpegs(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "jpegs"

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(builder=self, description="d", features=features)

        def _split_generators(self, dl_manager: Any) -> Any:  # noqa: ARG002
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Any:
            yield from examples()

    Jpegs.name = "jpegs"
    builder = Jpegs(data_dir=str(folder))
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))


def main() -> None:
    """Run the benchmark, or one writer for it."""
    if "--run" in sys.argv:
        name, folder, rounds = sys.argv[sys.argv.index("--run") + 1 :]
        print(json.dumps(run(name, Path(folder), int(rounds))))
        return
    results = cases("--quick" in sys.argv)
    for row in results + goals(results):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
