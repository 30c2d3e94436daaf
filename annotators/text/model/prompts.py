"""What a model is asked: one prompt per kind of text, its facts as JSON, and the JSON schema its reply must keep to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.ids import canonical_json, digest, short_id
from transforms.language.paraphrases import ACT_KINDS, OBJECT_KINDS

_ONLY = "Reply with one JSON object and nothing else. Use only the facts given; name no object that is not among them."


@dataclass(frozen=True, slots=True)
class Prompt:
    """One kind of request. Its fingerprint changes with its words and its schema, and with nothing else."""

    name: str
    system: str
    schema: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Identify the prompt."""
        return short_id("prompt", [self.name, self.system, self.schema])


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and the facts it is asked about."""

    prompt: Prompt
    facts: Mapping[str, Any]

    @property
    def user(self) -> str:
        """The facts as text."""
        return canonical_json(self.facts).decode()

    def key(self, model: str) -> str:
        """Identify the call: the same prompt and facts to the same model are asked once."""
        return digest([self.prompt.fingerprint, model, self.facts])


def _schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties), "additionalProperties": False}


_TEXT = {"type": "string", "maxLength": 400}
PARAPHRASE = Prompt(
    "paraphrase",
    "Say a robot's task in other words, without changing what is to be done. `object` says how its object is renamed, `act` how the "
    f"sentence is built. Give an empty list if the task makes no sense. {_ONLY}",
    _schema(
        paraphrases={
            "type": "array", "maxItems": 64,
            "items": _schema(text={**_TEXT, "minLength": 1}, object={"enum": list(OBJECT_KINDS)}, act={"enum": list(ACT_KINDS)}),
        }
    ),
)  # fmt: skip
RATIONALE = Prompt(
    "rationale",
    "Say in one sentence why a robot moved as it did. State the movement with the words given after the verb `move`. Give an empty "
    f"text if there is no reason to give. {_ONLY}",
    _schema(rationale=_TEXT),
)
QUESTION = Prompt(
    "qa",
    "Ask the question in other words, so that the same choices answer it. Do not hint at which one is right. Give an empty text if the "
    f"question makes no sense. {_ONLY}",
    _schema(question=_TEXT),
)
PROMPTS = (PARAPHRASE, RATIONALE, QUESTION)
