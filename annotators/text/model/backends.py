"""Models behind the client: an OpenAI-compatible endpoint, a local `transformers` checkpoint, and replies recorded before."""

import os
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

from annotators.text.model.prompts import Request
from annotators.weights import hash_weights
from schemas.errors import DependencyError, TransportError, UsageError
from schemas.ids import short_id

MAX_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said, word for word, and how many tokens it took."""

    text: str
    tokens: int


class Model(Protocol):
    """Answers one request at a time."""

    @property
    def fingerprint(self) -> str:
        """Identify the model, wherever it runs."""
        ...

    def reply(self, request: Request, attempt: int) -> Reply:
        """Answer.

        Raises:
            TransportError: it could not be reached; trying again may help.
            UsageError: it refuses for good.
        """
        ...


@lru_cache(maxsize=4)
def open_model(where: str, timeout_s: float) -> Model:
    """Open `http://host/v1#name`, `transformers:<folder>` or `recorded:<fingerprint>`.

    Raises:
        UsageError: it is none of these, or names no model.
    """
    if where.startswith(("http://", "https://")):
        url, _, name = where.partition("#")
        if not name:
            raise UsageError(f"model={where} names no model; write it after a hash: {url}#name")
        return Endpoint(url, name, timeout_s)
    kind, _, rest = where.partition(":")
    if kind == "transformers" and rest:
        return Local(Path(rest).expanduser())
    if kind == "recorded" and rest:
        return Recorded(rest)
    raise UsageError(f"model={where!r} is unknown; use http://host/v1#name, transformers:<folder> or recorded:<fingerprint>")


@dataclass(frozen=True)
class Endpoint:
    """A chat endpoint that speaks OpenAI's protocol. The key comes from `OPENAI_API_KEY`; it is stored nowhere."""

    url: str
    name: str
    timeout_s: float

    @property
    def fingerprint(self) -> str:
        """Identify the model by the name it is served under, not by the host."""
        return short_id("model", ["endpoint", self.name])

    @cached_property
    def _client(self) -> Any:
        try:
            import openai
        except ImportError as error:
            raise DependencyError("a model at an endpoint needs the extra `text`: pip install 'cotrain[text]'") from error
        key = os.environ.get("OPENAI_API_KEY", "none")
        return openai.OpenAI(base_url=self.url, api_key=key, timeout=self.timeout_s, max_retries=0)

    def reply(self, request: Request, attempt: int) -> Reply:
        """Ask once, with a seed that differs between attempts."""
        client = self._client
        import openai

        messages = [{"role": "system", "content": request.prompt.system}, {"role": "user", "content": request.user}]
        try:
            made = client.chat.completions.create(
                model=self.name, messages=messages, temperature=0.0 if attempt == 0 else 0.7, seed=attempt,
                max_tokens=MAX_TOKENS, response_format={"type": "json_object"},
            )  # fmt: skip
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
            raise TransportError(f"the model {self.name} at {self.url} cannot be reached: {error}") from error
        except openai.OpenAIError as error:
            raise UsageError(
                f"the model {self.name} at {self.url} refuses: {error}; check its name, the key and the address"
            ) from error
        if not made.choices:
            raise TransportError(f"the model {self.name} at {self.url} answered with no choice")
        return Reply(made.choices[0].message.content or "", made.usage.total_tokens if made.usage else 0)


@dataclass(frozen=True)
class Local:
    """A causal language model in a local folder: safetensors, its own tokenizer, no code of its own."""

    folder: Path
    device: str = field(default="cpu")

    @property
    def fingerprint(self) -> str:
        """Identify the model by its files."""
        return short_id("model", ["transformers", *hash_weights(self.folder)])

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        where = {"local_files_only": True, "trust_remote_code": False}
        tokenizer: Any = AutoTokenizer.from_pretrained(self.folder, **where)
        model: Any = AutoModelForCausalLM.from_pretrained(self.folder, use_safetensors=True, **where)
        return tokenizer, model.eval().to(self.device)

    def reply(self, request: Request, attempt: int) -> Reply:
        """Decode greedily; a further attempt samples with its number as seed."""
        import torch

        tokenizer, model = self._loaded
        text = f"{request.prompt.system}\n{request.user}\n"
        inputs = tokenizer(text, return_tensors="pt").to(self.device)
        torch.manual_seed(attempt)
        most = min(MAX_TOKENS, model.config.max_position_embeddings - inputs["input_ids"].shape[1])
        if most < 1:
            raise UsageError(f"the prompt {request.prompt.name} is longer than the model in {self.folder} can read")
        with torch.inference_mode():
            out = model.generate(
                **inputs, max_new_tokens=most, do_sample=attempt > 0, pad_token_id=tokenizer.eos_token_id
            )  # fmt: skip
        fresh = out[0, inputs["input_ids"].shape[1] :]
        return Reply(tokenizer.decode(fresh, skip_special_tokens=True), int(out.shape[1]))


@dataclass(frozen=True, slots=True)
class Recorded:
    """Replies that another run made: nothing is asked anew."""

    fingerprint: str

    def reply(self, request: Request, attempt: int) -> Reply:  # noqa: ARG002
        """Refuse: what is not among the replies was never asked."""
        raise UsageError(
            f"no reply to {request.user[:80]} is recorded for {self.fingerprint}; run its model first, or copy its replies"
        )
