"""What every source adapter promises. Inherit `SourceContract` and override the `source` fixture."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.executors import Execution
from pipelines.ingest import IngestStage
from pipelines.shards.draft import EpisodeDraft
from pipelines.unit import Reject, run_stage
from schemas.contract import Contract
from schemas.ids import canonical_json, is_slug
from schemas.shards import steps_schema


class SourceContract:
    @pytest.fixture
    def source(self) -> Any:
        """The adapter under test, on a small source with at least one good episode."""
        raise AssertionError("override this fixture")

    def items(self, source: Any) -> list[EpisodeDraft | Reject]:
        return [item for group in source.groups() for item in source.read(group)]

    def test_has_a_name_and_a_version(self, source: Any) -> None:
        assert is_slug(source.name)
        assert source.version

    def test_travels_to_workers(self, source: Any) -> None:
        assert pickle.loads(pickle.dumps(source)) == source

    def test_recognises_its_own_and_not_an_empty_folder(self, source: Any, tmp_path: Path) -> None:
        assert type(source).recognises(source.uri)
        assert not type(source).recognises(str(tmp_path))

    def test_its_contract_names_the_dataset_and_survives_json(self, source: Any) -> None:
        contract = source.contract()
        assert contract.dataset == source.options.dataset
        assert Contract.from_json(contract.to_json()) == contract
        assert contract.standardise == ()  # lists are the lake's, not a source's

    def test_planning_is_repeatable(self, source: Any) -> None:
        first, second = ([canonical_json([g.label, g.inputs, g.episodes]) for g in source.groups()] for _ in range(2))
        assert first == second
        assert len(set(first)) == len(first)

    def test_yields_every_planned_episode_or_a_reject_for_it(self, source: Any) -> None:
        for group in source.groups():
            count = sum(i.episodes if isinstance(i, Reject) else 1 for i in source.read(group))
            assert count == group.episodes

    def test_episode_keys_are_unique(self, source: Any) -> None:
        keys = [i.key for i in self.items(source)]
        assert len(set(keys)) == len(keys)

    def test_steps_follow_the_contract(self, source: Any) -> None:
        schema = steps_schema(source.contract())
        schema = schema.remove(schema.get_field_index("episode_id"))
        drafts = [i for i in self.items(source) if isinstance(i, EpisodeDraft)]
        assert drafts
        assert all(d.steps.schema.equals(schema) for d in drafts)

    def test_frames_named_by_steps_exist(self, source: Any) -> None:
        for draft in (i for i in self.items(source) if isinstance(i, EpisodeDraft)):
            frames = {t.camera: t.frames for t in draft.tracks}
            for name in (n for n in draft.steps.column_names if n.startswith("frame.")):
                assert max(draft.steps.column(name).to_pylist()) < frames.get(name.removeprefix("frame."), 0) or -1 in set(
                    draft.steps.column(name).to_pylist()
                )

    def test_ingesting_twice_gives_the_same_lake(self, source: Any, tmp_path: Path) -> None:
        def contents(name: str) -> list[tuple]:
            lake = Lake.at(tmp_path / name)
            run_stage(IngestStage(lake, source), execution=Execution(workers=0), stop_rejects=1.0)
            rows = Catalog(lake).latest("shards").select("uri", "blake3").collect()
            return rows.rows()

        first = contents("a")
        assert first
        assert first == contents("b")
