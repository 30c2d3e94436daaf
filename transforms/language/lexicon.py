"""The words paraphrases are made from: synonyms by kind, additions, participles. A table a user can extend or replace."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Words = Mapping[str, tuple[str, ...]]

_NOUN_CONTEXT: Words = {
    "bowl": ("container", "receptacle"), "plate": ("dinnerware", "serving dish"), "stove": ("cooking surface", "appliance"),
    "cabinet": ("storage unit", "furniture"), "drawer": ("compartment", "sliding box"), "rack": ("holder", "bottle holder"),
    "bottle": ("flask", "container"), "cheese": ("dairy block", "spread"), "cup": ("drinking vessel", "container"),
    "mug": ("drinking vessel", "container"), "block": ("piece", "object"), "cube": ("piece", "object"), "basket": ("carrier", "bin"),
    "microwave": ("appliance", "kitchen oven"), "book": ("reading matter", "volume"), "door": ("panel", "hinged panel"),
    "slider": ("sliding panel", "sliding part"), "lightbulb": ("light source", "light"), "led": ("light source", "light"),
    "button": ("control", "push control"), "can": ("container", "tin container"), "box": ("container", "package"),
}  # fmt: skip
_NOUN_HABIT: Words = {
    "bowl": ("basin", "dish"), "plate": ("platter", "dish"), "stove": ("cooker", "range"), "cabinet": ("cupboard", "chest"),
    "drawer": ("tray", "pull-out"), "rack": ("stand", "shelf"), "bottle": ("flagon", "decanter"), "cheese": ("curd", "fromage"),
    "cup": ("tumbler", "beaker"), "mug": ("tankard", "beaker"), "block": ("brick", "slab"), "cube": ("brick", "die"),
    "basket": ("hamper", "crate"), "microwave": ("micro oven", "oven"), "book": ("tome", "volume"), "door": ("gate", "hatch"),
    "slider": ("track", "runner"), "lightbulb": ("bulb", "lamp"), "led": ("diode", "lamp"), "button": ("knob", "key"),
    "can": ("tin", "canister"), "box": ("carton", "case"),
}  # fmt: skip
_NOUN_ADD: Words = {
    "bowl": ("kitchen",), "plate": ("serving",), "stove": ("kitchen",), "cabinet": ("storage",), "drawer": ("utility",),
    "rack": ("storage",), "bottle": ("glass",), "cheese": ("spreadable",), "cup": ("drinking",), "mug": ("drinking",),
    "block": ("toy",), "cube": ("toy",), "basket": ("storage",), "microwave": ("kitchen",), "book": ("paper",), "door": ("front",),
    "slider": ("sliding",), "lightbulb": ("electric",), "led": ("electric",), "button": ("push",), "can": ("metal",), "box": ("packed",),
}  # fmt: skip
_VERB_CONTEXT: Words = {
    "put": ("deposit", "set down"), "place": ("deposit", "set down"), "open": ("slide out", "unseal"), "close": ("seal", "slide in"),
    "push": ("scoot", "shove along"), "turn on": ("start up", "ignite"), "turn off": ("extinguish", "shut down"),
    "pick up": ("grab", "collect"), "lift": ("hoist", "take up"), "move": ("bring", "transfer"), "rotate": ("twist", "spin"),
    "pull": ("drag", "draw"), "grasp": ("seize", "clasp"), "take": ("grab", "fetch"), "stack": ("pile", "heap"),
}  # fmt: skip
_VERB_HABIT: Words = {
    "put": ("set", "lay"), "place": ("set", "lay"), "open": ("pull open", "unclose"), "close": ("shut", "shut up"),
    "push": ("shove", "press"), "turn on": ("switch on", "activate"), "turn off": ("switch off", "deactivate"),
    "pick up": ("lift up", "take up"), "lift": ("raise", "elevate"), "move": ("shift", "carry"), "rotate": ("turn", "revolve"),
    "pull": ("tug", "haul"), "grasp": ("grip", "hold"), "take": ("get", "pick"), "stack": ("layer", "build up"),
}  # fmt: skip
_PARTICIPLE: Mapping[str, str] = {
    "put": "put", "set": "set", "lay": "laid", "shut": "shut", "take": "taken", "draw": "drawn", "bring": "brought", "spin": "spun",
    "drag": "dragged", "grab": "grabbed", "tug": "tugged", "get": "gotten", "hold": "held", "grip": "gripped", "build": "built",
    "slide": "slid", "unseal": "unsealed", "transfer": "transferred", "deposit": "deposited", "scoot": "scooted",
}  # fmt: skip


@dataclass(frozen=True)
class Lexicon:
    """Synonyms by kind (`contextual` fit the scene, `habitual` are the dictionary's), additions and participles.

    Attributes:
        nouns: per kind, head nouns and what may replace them.
        verbs: the same for verbs, with their particle ("turn on").
        additions: head nouns and the words that may be put before them.
        manners: adverbs that may be put before a verb.
        participles: irregular past participles.
    """

    nouns: Mapping[str, Words] = field(
        default_factory=lambda: {"same_polarity_contextual": _NOUN_CONTEXT, "same_polarity_habitual": _NOUN_HABIT}
    )
    verbs: Mapping[str, Words] = field(
        default_factory=lambda: {"same_polarity_contextual": _VERB_CONTEXT, "same_polarity_habitual": _VERB_HABIT}
    )
    additions: Words = field(default_factory=lambda: _NOUN_ADD)
    manners: tuple[str, ...] = ("carefully", "gently", "slowly")
    participles: Mapping[str, str] = field(default_factory=lambda: _PARTICIPLE)

    def verb_names(self) -> tuple[str, ...]:
        """Every verb it knows, its synonyms included, longest first."""
        known = {v for words in self.verbs.values() for v in words} | {
            s for w in self.verbs.values() for v in w.values() for s in v
        }
        return tuple(sorted(known, key=lambda v: (-len(v.split()), v)))

    def participle(self, verb: str) -> str:
        """Return the past participle of a verb, its particle kept: "turn on" gives "turned on"."""
        first, _, rest = verb.partition(" ")
        made = self.participles.get(first) or (f"{first}d" if first.endswith("e") else f"{first}ed")
        return f"{made} {rest}".strip()
