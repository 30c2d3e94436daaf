"""Keys of caches: what was computed, and over what. The first names a folder, the second the rows of one episode inside it.

A cache key hashes everything that decides an answer besides the data: weights, configuration, mask, normaliser, preprocessing,
samplers, precision, software. A sub-key adds one episode's content and its dataset's contract and windows. So another weight is
another cache, another contract invalidates one dataset, and a changed episode invalidates its own rows and no others.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.residuals.config import CacheConfig
from pipelines.residuals.fingerprints import digest_of, environment
from pipelines.residuals.teacher import Needs, TeacherSpec
from schemas.contract import Contract
from schemas.residuals import SCHEMA_VERSION

CODE = "1"  # raise when the same key would give other rows
_STORAGE = ("unit_rows",)


@dataclass(frozen=True, slots=True)
class EpisodeRef:
    """The frames of one episode that a cache covers: steps `[first, stop)` of it."""

    dataset: str
    shard: str
    episode_id: str
    content_hash: str
    first: int
    stop: int
    key: str = ""
    contract: str = ""

    def frames(self, stride: int) -> int:
        """Number of cached frames."""
        return len(range(self.first, self.stop, stride))


def cache_parts(spec: TeacherSpec, config: CacheConfig) -> dict[str, Any]:
    """Return everything that decides a cache's rows besides the data, as plain values: what `cache_key` hashes."""
    teacher = {k: v for k, v in asdict(spec).items() if k != "teacher_id"}
    settings = {k: v for k, v in asdict(config).items() if k not in _STORAGE}
    settings["tau"] = config.tau or spec.convention.sampler
    parts: dict[str, Any] = {
        "teacher": teacher, "config": settings, "environment": environment("lerobot", *spec.libraries), "schema": SCHEMA_VERSION,
        "code": CODE,
    }  # fmt: skip
    return json.loads(json.dumps(parts, sort_keys=True))


def cache_key(parts: Mapping[str, Any]) -> str:
    """Return the key of a cache: 32 hexadecimal digits of BLAKE2b."""
    return digest_of(parts)


def dataset_version(contract: Contract, needs: Needs, windows: Any) -> str:
    """Hash what a dataset's samples mean to a teacher: its contract, and what is read of it and when."""
    return digest_of([json.loads(contract.to_json()), asdict(needs), windows])


def contract_digest(contract: Contract) -> str:
    """Return the digest of a contract that cached episodes carry."""
    return digest_of(json.loads(contract.to_json()))


def episode_key(key: str, version: str, ref: EpisodeRef) -> str:
    """Return the sub-key of one episode's rows."""
    return digest_of([key, version, ref.dataset, ref.episode_id, ref.content_hash, ref.first, ref.stop])[:20]


def differences(now: Mapping[str, Any], then: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Name the parts in which two caches differ, for people who wonder why one is not used."""
    found: list[str] = []
    for name in sorted({*now, *then}):
        a, b = now.get(name), then.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found.append(f"{prefix}{name}")
    return found
