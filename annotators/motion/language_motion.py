"""Language motions: what the robot does next, as a code and as words, read from its own signals. No model, no pixels.

Rules: `rate`, in seconds and metres (RT-H's idea; sheet of thresholds in `transforms.motion.RateRule`), and `ecot_verbatim`.

Sources, best first: end-effector proprioception; end-effector actions; joints. A robot whose contract only tells joints is told by its
hands where forward kinematics is given (`annotators.motion.forward`); else it is labelled in joint space from its absolute joint
targets: the speed of every named joint against `w_on`, with the same share, hysteresis and duration rules; joints compete within a
limb; fingers become the opening of a hand.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import pyarrow as pa

from annotators.base import Batch, Covers, fingerprint
from annotators.clips import Needs
from annotators.evaluation import QualityReport
from annotators.motion.config import LanguageMotionConfig
from annotators.motion.forward import joint_source, kinematics_hashes, place_hands, with_kinematics
from annotators.motion.labels import Frame, StepLabels, ecot_labels, make_frame, rate_labels
from annotators.motion.rows import label_rows
from annotators.motion.source import MotionSource, find_source
from annotators.motion.things import object_columns, object_streams
from annotators.spans import nothing
from schemas.annotation import NAME, annotation_schema
from schemas.contract import Contract
from schemas.settings import parse_settings


@dataclass(frozen=True, slots=True)
class LanguageMotion:
    """Annotates steps with language motions; see the module's text."""

    config: LanguageMotionConfig = field(default_factory=LanguageMotionConfig)

    name: ClassVar[str] = "language_motion"
    version: ClassVar[str] = "2"
    covers: ClassVar[Covers] = "steps"
    provides: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("text", NAME),
            pa.field("code", pa.list_(pa.int8())),  # one sign per axis; one arm: x, y, z, rx, ry, rz, grip, base
            pa.field("axes", pa.dictionary(pa.int32(), pa.string())),  # names of the code's axes, comma-separated
            pa.field("rate", pa.list_(pa.float32())),  # mean over the span, per axis: m/s, rad/s, opening per window
            pa.field("frame_ref", NAME),  # base, camera, ee, user; joint where the axes are joints
            pa.field("source", NAME),  # proprio or action
            pa.field("margin", pa.float32()),  # mean distance to the nearest threshold, relative to it
            pa.field("toward", NAME),  # the object the hand moves straight at; null: none, or none is known
            pa.field("negative", NAME),  # a motion that this is not
            pa.field("negative_code", pa.list_(pa.int8())),
        ]
    )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Build one from `--set key=value` pairs; keys are the fields of `LanguageMotionConfig`."""
        return cls(parse_settings(LanguageMotionConfig, settings))

    def settings(self) -> dict[str, Any]:
        """Return the configuration, ready for JSON."""
        return asdict(self.config)

    def fingerprint(self) -> str:
        """Identify name, version, configuration and kinematics."""
        return fingerprint(self.name, self.version, self.settings(), kinematics_hashes(self.config))

    def requires(self, contract: Contract) -> tuple[str, ...]:
        """Name what motion is read from; empty where the contract names nothing that moves."""
        usable = self.usable(contract)
        if isinstance(usable, str):
            return ()
        joints = joint_source(contract, self.config)
        columns = usable[0].columns if joints is None else joints.columns
        things = () if self.config.objects == "off" else tuple(object_columns(contract).values())
        streams = tuple(f"stream:{s}" for s in self.needs(contract).streams)
        return tuple(dict.fromkeys((*columns, *things, *streams)))

    def needs(self, contract: Contract) -> Needs:
        """Ask for the poses of objects where a simulator recorded them."""
        wanted = self.config.objects != "off" and not isinstance(self.usable(contract), str)
        return Needs(streams=tuple(object_streams(contract).values()) if wanted else ())

    def run(self, batch: Batch) -> pa.Table:
        """Label every step; steps that cannot be labelled are in rows with the reason."""
        if not batch.episodes:
            return annotation_schema(self.provides).empty_table()
        batch = place_hands(batch, self.config)
        usable = self.usable(batch.contract)
        if isinstance(usable, str):
            return nothing(self, batch, usable)
        labels = self._label(batch, *usable)
        return label_rows(self, self.config, batch, labels, usable[0])

    def evaluate(self, heldout: Batch) -> tuple[QualityReport, ...]:
        """Measure invariance, robustness, agreement and predictiveness; see `annotators.motion.evaluation`."""
        from annotators.motion.evaluation import evaluate_motion

        return evaluate_motion(self, place_hands(heldout, self.config))

    def usable(self, contract: Contract) -> tuple[MotionSource, Frame] | str:
        """Return the source and frame for a dataset, or the reason why it has none."""
        contract = with_kinematics(contract, self.config)
        source = find_source(contract, self.config.source)
        if source is None:
            return "no_motion_source"
        if self.config.rule == "ecot_verbatim" and not (
            len(source.arms) == 1 and source.arms[0].position.representation == "absolute"
        ):
            return "rule_needs_end_effector"
        frame = make_frame(contract, source, self.config.frame_ref, self.config.camera, self.config.user_rotation)
        return frame if isinstance(frame, str) else (source, frame)

    def label(self, batch: Batch) -> StepLabels | str:
        """Return one code per step, or the reason why this dataset cannot have any."""
        batch = place_hands(batch, self.config)
        usable = self.usable(batch.contract)
        return usable if isinstance(usable, str) else self._label(batch, *usable)

    def _label(self, batch: Batch, source: MotionSource, frame: Frame) -> StepLabels:
        if self.config.rule == "ecot_verbatim":
            return ecot_labels(batch, source, self.config)
        return rate_labels(batch, source, frame, self.config)
