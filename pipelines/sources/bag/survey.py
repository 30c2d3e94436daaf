"""What the topics of a bag are, told from their types and first messages: pictures, joints, numbers, texts, or nothing that is kept."""

from dataclasses import dataclass, field
from typing import Any

from pipelines.sources.bag.decoders import Decoder, decoder_for
from pipelines.sources.bag.images import Facts, facts_of, form_of
from pipelines.sources.bag.message import Leaves, find, frame_of, leaves
from pipelines.sources.bag.open_bag import OpenBag
from pipelines.sources.bag.readers import Raw, damage_errors
from schemas.errors import CorruptMediaError, DataError

JOINT_SAMPLES = 50  # publishers of one joint_states topic may each tell some joints only
PATIENCE = 200  # messages nobody waits for, after which the search starts again with fewer topics
JOINT_PARTS = ("position", "velocity", "effort")
TF_TYPE, CAMERA_INFO = ("TFMessage", "tfMessage"), "CameraInfo"


@dataclass(slots=True)
class Topic:
    """One topic of a bag. `problem` says why it is not kept, where that is so."""

    name: str
    type: str
    count: int
    ragged: bool = True
    frame: str | None = None
    picture: Facts | None = None
    joints: tuple[str, ...] = ()
    joint_parts: tuple[str, ...] = ()
    flat: Leaves = field(default_factory=Leaves)
    sample: Any = None
    problem: str = ""

    @property
    def kind(self) -> str:
        """The type's own name, without its package."""
        return self.type.replace(".", "/").rsplit("/", 1)[-1]

    @property
    def is_tf(self) -> bool:
        """Whether it carries transforms between frames."""
        return self.kind in TF_TYPE

    @property
    def is_text(self) -> bool:
        """Whether its messages hold one text and no number."""
        return bool(self.flat.texts) and not self.flat.values


def survey(bag: OpenBag) -> dict[str, Topic]:
    """Return every topic of `bag` that has messages, in the order in which the bag lists them.

    Raises:
        CorruptMediaError: no message of any topic can be read, because the bag is damaged.
    """
    topics = {c.topic: Topic(c.topic, c.type, n) for c in bag.channels if (n := bag.counts[c.topic])}
    kinds = dict[str, set[str]]()
    for channel in bag.channels:
        kinds.setdefault(channel.topic, set()).add(channel.type)
    waiting = {name: min(topic.count, JOINT_SAMPLES) if topic.kind == "JointState" else 1 for name, topic in topics.items()}
    for name, topic in topics.items():
        if len(kinds[name]) > 1:
            topic.problem = f"its messages are of several types: {', '.join(sorted(kinds[name]))}"
            del waiting[name]
    damage = list[str]()
    while waiting:
        before = dict(waiting)
        _look(bag, topics, waiting, damage)
        if waiting == before:
            for name in waiting:
                topics[name].problem = topics[name].problem or "none of its messages can be read"
            break
    if damage and all(t.problem for t in topics.values()):
        raise CorruptMediaError(damage[0], uri=bag.uri)
    return topics


def _look(bag: OpenBag, topics: dict[str, Topic], waiting: dict[str, int], damage: list[str]) -> None:
    """Read until every topic has been seen often enough, or too many messages of satisfied topics go by."""
    idle = 0
    for raw in bag.messages(frozenset(waiting), damage=damage):
        name = raw.channel.topic
        if name not in waiting:
            idle += 1
            if idle > PATIENCE:
                return
            continue
        _see(topics[name], raw)
        waiting[name] -= 1
        if waiting[name] <= 0 or topics[name].problem:
            del waiting[name]
        if not waiting:
            return


def _see(topic: Topic, raw: Raw) -> None:
    try:
        decoder = decoder_for(raw.channel)
        message = decoder.decode(raw.data)
        if topic.kind == "JointState":
            _see_joints(topic, message)
        if topic.sample is None:
            _describe(topic, message, decoder)
    except DataError as error:
        topic.problem = str(error)
    except damage_errors() as error:
        topic.problem = f"its messages do not fit their definition ({error or type(error).__name__})"


def _describe(topic: Topic, message: Any, decoder: Decoder) -> None:
    topic.sample, topic.ragged, topic.frame = message, decoder.ragged, frame_of(message)
    if form_of(topic.type) is not None:
        topic.picture = facts_of(topic.type, message)
        return
    topic.flat = leaves(message)
    if topic.flat.binary:
        topic.problem = f"its field {topic.flat.binary} holds binary data"
    elif topic.flat.is_large:
        topic.problem = "its messages hold thousands of numbers: a cloud or a map, not a signal"


def _see_joints(topic: Topic, message: Any) -> None:
    names = [str(n) for n in find(message, "name") or ()]
    topic.joints = tuple(dict.fromkeys([*topic.joints, *names]))
    if not topic.joint_parts:
        sizes = {p: len(v) for p in JOINT_PARTS if (v := find(message, p)) is not None}
        topic.joint_parts = tuple(p for p, size in sizes.items() if size and size == len(names))
