"""Texts about episodes, each kept only if its verifiers pass: questions, rationales, paraphrases, implausible sequences, goals, plans.

The template tier writes from known state alone and always works. A model adds its wording through one client; what is true in a text
stays derived. Verdicts are columns, and what was refused is an invalid row. See `docs/text.md`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import pyarrow as pa

from annotators.base import Batch, Covers, fingerprint
from annotators.clips import Needs
from annotators.evaluation import QualityReport
from annotators.text.config import TextConfig
from annotators.text.draft import VERDICTS, Draft
from annotators.text.judge import judged, rebalanced
from annotators.text.kinds.anticipation import anticipation
from annotators.text.kinds.goals import goals
from annotators.text.kinds.implausible import implausible
from annotators.text.kinds.paraphrases import paraphrases
from annotators.text.kinds.plans import plans
from annotators.text.kinds.qa import placed, questions
from annotators.text.kinds.rationale import rationales
from annotators.text.model.backends import open_model
from annotators.text.model.client import Client
from annotators.text.model.prompts import PROMPTS
from annotators.text.model.reword import reworded
from annotators.text.rows import as_table
from annotators.text.scene import ACTS, Scene, parts_of, scenes
from annotators.text.verify.derive import Truth
from schemas.annotation import NAME, annotation_schema
from schemas.contract import Contract
from schemas.settings import parse_settings
from transforms.language.sequences import mine

WORDED = ("paraphrase", "plan")  # kinds that read the task's words
_MOVED = ("qa", "rationale", "implausible", "goal", "anticipation", "plan")  # kinds that read what moves


@dataclass(frozen=True, slots=True)
class Text:
    """Annotates episodes with texts; see the module's text."""

    config: TextConfig = field(default_factory=TextConfig)

    name: ClassVar[str] = "text"
    version: ClassVar[str] = "2"
    covers: ClassVar[Covers] = "episodes"
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("kind", NAME),
            pa.field("template", NAME),  # which rule wrote it, or what the model reworded
            pa.field("text", pa.string()),
            pa.field("style", NAME),  # LeRobot's; null: it has none, and the text stays in this table
            pa.field("at_ns", pa.int64()),  # the moment it is about, where that is one; episode clock
            pa.field("question", pa.string()),
            pa.field("choices", pa.list_(pa.string())),
            pa.field("answer", pa.string()),
            pa.field("slots", pa.string()),  # JSON: what the text was filled from
            pa.field("gt_source", NAME),
            pa.field("posterior", pa.bool_()),  # written knowing the action: no prompt for a policy
            pa.field("negative_of", pa.string()),
            pa.field("violation", NAME),
            pa.field("cell", NAME),  # object kind + act kind of the paraphrase grid
            pa.field("pd", pa.float32()),
            pa.field("s_k", pa.float32()),
            pa.field("s_t", pa.float32()),
            pa.field("pride_variant", NAME),
            pa.field("goal_value", pa.float32()),  # metres
            pa.field("goal_tolerance", pa.float32()),
            pa.field("tier", NAME),
            pa.field("model_fp", NAME),
            pa.field("prompt_fp", NAME),
            pa.field("tokens", pa.int32()),
            *(pa.field(name, pa.bool_()) for name in VERDICTS),  # null: this verifier does not apply
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `TextConfig`."""
        return cls(parse_settings(TextConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, what is written and by which model; not where it runs, nor where replies are kept."""
        plain = {k: v for k, v in self.settings().items() if k not in ("model", "replies", "retries", "wait_s", "timeout_s")}
        model = (self._client().model.fingerprint, *(p.fingerprint for p in PROMPTS)) if self.config.model else ()
        return fingerprint(self.name, self.version, plain, (*model, ACTS.fingerprint()))

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name what it reads: what segments read, and the task's words where they are asked for."""
        moving = ACTS.requires(contract) if set(self.config.kinds) & set(_MOVED) else ()
        return (*moving, *(("language",) if set(self.config.kinds) & set(WORDED) and contract.features else ()))

    def needs(self, contract: Contract) -> Needs:
        """Ask for the poses of objects where a simulator recorded them."""
        return ACTS.needs(contract) if set(self.config.kinds) & set(_MOVED) else Needs()

    def run(self, batch: Batch) -> pa.Table:
        """Write about every episode. Where nothing of a kind can be said, a row over the whole episode says why.

        Raises:
            TransportError: the model cannot be reached; finished replies are kept, and running again goes on from there.
        """
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        return as_table(self, batch, self.drafts(batch))

    def drafts(self, batch: Batch) -> list[list[Draft]]:
        """Return every episode's texts with their verdicts, sorted by where they begin."""
        truth = Truth(batch)
        found = list[list[Draft]]()
        for at, scene in enumerate(scenes(batch, self.config.observed if "anticipation" in self.config.kinds else None)):
            start = int(batch.starts[at])
            made = [judged(d, scene, truth, start, self.config) for d in self._written(scene)]
            if self.config.model:
                more = reworded(made, scene, self._client())
                made += [judged(d, scene, truth, start, self.config) for d in more]
            found.append(placed(sorted(rebalanced(made), key=lambda d: d.first)))
        return found

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure what the acceptance of each kind asks; see `annotators.text.evaluation`."""
        from annotators.text.evaluation import evaluate_text

        return evaluate_text(self, heldout)

    def calibrated(self, batch: Batch) -> Self:
        """Return this annotator with the constraints that a dataset's sequences of acts keep to."""
        parts, _ = parts_of(batch)
        known = mine([[p.act for p in acts] for acts in parts if acts], self.config.support, self.config.confidence)
        return replace(self, config=replace(self.config, before=known.before, pairs=known.pairs))

    def _written(self, scene: Scene) -> list[Draft]:
        config, made = self.config, list[Draft]()
        for kind in dict.fromkeys(config.kinds):
            if kind in _MOVED and scene.reason is not None and kind != "plan":
                got: list[Draft] | str = scene.reason
            else:
                got = {
                    "qa": lambda: questions(scene, config), "rationale": lambda: rationales(scene, config),
                    "paraphrase": lambda: paraphrases(scene), "implausible": lambda: implausible(scene, config),
                    "goal": lambda: goals(scene, config), "anticipation": lambda: anticipation(scene, config),
                    "plan": lambda: plans(scene),
                }[kind]()  # fmt: skip
            made += [Draft(kind, "none", None, 0, scene.size, reason=got)] if isinstance(got, str) else got
        return made

    def _client(self) -> Client:
        c = self.config
        return Client(open_model(c.model, c.timeout_s), Path(c.replies).expanduser(), c.retries, c.wait_s)
