"""A whole lake on S3 by storage options alone, through a proxy that breaks requests; and where its credentials do not go."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.annotate import AnnotateStage
from pipelines.cli.app import run as command_line
from pipelines.executors import Execution
from pipelines.export import ExportStage
from pipelines.ingest import IngestStage
from pipelines.integrity import verify_lake
from pipelines.loader.load import load
from pipelines.mixture.mix import mix
from pipelines.shards.remote import default_cache
from pipelines.unit import Stage, run_stage
from pipelines.verify import VerifyStage
from schemas.errors import TransportError
from schemas.mixture import MixtureSpec, SourceSpec
from schemas.tables import TABLES
from tests.support.faulty_s3 import FaultyS3
from tests.support.toys import LENGTHS, ToySource, ingest_toy

pytestmark = pytest.mark.filterwarnings("ignore")  # moto, flask and botocore warn about themselves
HERE, KEY, SECRET = Execution(workers=0), "AKIAOPENSESAME", "w7-this-must-not-show-9q"
SPEC = MixtureSpec("toy-mix", 100, (SourceSpec("toy"),))


@pytest.fixture(scope="module")
def proxy(s3: Any) -> Iterator[FaultyS3]:
    with FaultyS3(os.environ["AWS_ENDPOINT_URL"]).running() as started:
        yield started


@pytest.fixture
def remote(s3: Any, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Lake]:
    """A lake that only its own options can reach."""
    for name in (
        "AWS_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_ALLOW_HTTP",
    ):
        monkeypatch.delenv(name)
    default_cache.cache_clear()
    yield Lake(
        f"s3://{s3.bucket}/{request.node.name}",
        {
            "aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "aws_endpoint_url": proxy.url, "aws_region": "us-east-1",
            "aws_allow_http": "true", "timeout": "1s", "connect_timeout": "1s",
        },
    )  # fmt: skip
    proxy.plan = lambda *_: None
    default_cache.cache_clear()


def rows(lake: Lake, table: str, *columns: str) -> list[Any]:
    return sorted(Catalog(lake).latest(table).select(*columns).collect().rows())


FAULTS = (
    ("PUT", "/shards/toy/", "500"), ("PUT", "catalog/datasets/_delta_log", "drop"), ("PUT", "catalog/shards/_delta_log", "hang"),
    ("PUT", "catalog/episodes/_delta_log", "lost"), ("PUT", "catalog/runs/_delta_log", "lost"), ("GET", "catalog/episodes/part", "503"),
    ("PUT", "/receipts/", "drop"), ("GET", "/shards/toy/", "hang"), ("PUT", "/annotations/language_motion/", "503"),
    ("PUT", "catalog/annotations/_delta_log", "500"), ("PUT", "/mixtures/toy-mix/", "drop"),
)  # fmt: skip


def test_a_whole_lake_on_s3_survives_errors_timeouts_and_lost_answers(
    remote: Lake, proxy: FaultyS3, lake: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    ingest_toy(lake)
    run_stage(AnnotateStage.named(lake, "language_motion"), execution=HERE)
    to_come = proxy.once_each(*FAULTS)
    run_to_the_end(IngestStage(remote, ToySource()))
    run_to_the_end(AnnotateStage.named(remote, "language_motion"))
    mixed = mix(remote, SPEC, execution=HERE)
    assert to_come == []

    assert rows(remote, "shards", "uri", "blake3") == rows(lake, "shards", "uri", "blake3")
    assert rows(remote, "annotations", "uri", "blake3") == rows(lake, "annotations", "uri", "blake3")
    assert mixed.hash == mix(lake, SPEC, execution=HERE).hash
    assert Catalog(remote).scan("episodes").collect().height == len(LENGTHS)  # nothing twice
    assert verify_lake(remote).ok
    assert len(load("toy", remote)) == sum(LENGTHS)
    out = tmp_path / "export"
    run_stage(ExportStage(remote, "mixture:toy-mix", "webdataset", str(out)), execution=HERE)
    assert run_stage(VerifyStage(remote, str(out)), execution=HERE).count("done") == 1
    assert secrets_in(remote, [caplog.text, *(p.read_text(errors="replace") for p in out.rglob("*.json*"))]) == []


def run_to_the_end(stage: Stage) -> None:
    """Run a stage, and once more for what a fault kept from being done: what a flow's retries or a user's second run do."""
    if run_stage(stage, execution=HERE).count("failed"):
        assert run_stage(stage, execution=HERE).count("failed") == 0


def secrets_in(lake: Lake, texts: list[str]) -> list[str]:
    """Look for the credentials in every row, every small file of the lake, and `texts`; return the surroundings of what is found."""
    texts += [str(Catalog(lake).scan(table).collect().rows()) for table in TABLES]
    texts += [lake.fs.cat_file(p).decode(errors="replace") for p in lake.fs.find(lake.root) if not p.endswith(".arrow")]
    texts += [repr(lake), repr(IngestStage(lake, ToySource()))]
    assert sum("toy" in text for text in texts) > 10  # it looks at something
    return [text[max(text.find(SECRET) - 200, 0) :][:400] for text in texts if SECRET in text]


def test_an_outage_is_a_sentence_and_what_was_committed_stays(
    remote: Lake, proxy: FaultyS3, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalog.append.OUTAGE_PAUSE_S", 0.0)
    proxy.plan = lambda method, path: "drop" if "catalog/runs/_delta_log" in path and method == "PUT" else None
    with pytest.raises(
        TransportError, match=r"the store of the lake s3://\S+ failed: .* What was committed stays; run it again"
    ) as caught:
        run_stage(IngestStage(remote, ToySource()), execution=HERE)
    proxy.plan = lambda *_: "drop"
    options = tmp_path / "storage.toml"
    options.write_text("".join(f'{key} = "{value}"\n' for key, value in remote.storage_options.items()))
    monkeypatch.setenv("COTRAIN_STORAGE", str(options))
    assert command_line(["ls", "--lake", remote.root]) == 1
    told = capfd.readouterr().err
    assert told.startswith("cotrain: the store of the lake ")
    assert len(told.splitlines()) == 1
    proxy.plan = lambda *_: None
    assert command_line(["ls", "--lake", remote.root]) == 0
    report = run_stage(IngestStage(remote, ToySource()), execution=HERE)
    assert (report.count("recovered") + report.count("done"), report.count("failed")) == (2, 0)
    assert Catalog(remote).scan("episodes").collect().height == len(LENGTHS)
    shown = [str(caught.value), told, capfd.readouterr().out]
    assert not [text for text in shown if SECRET in text or KEY in text or "?" in text]
