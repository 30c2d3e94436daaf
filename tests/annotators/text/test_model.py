import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from annotators.base import Batch
from annotators.check import check_output
from annotators.text.config import TextConfig
from annotators.text.model.backends import Endpoint, Local, Reply, open_model
from annotators.text.model.client import Client
from annotators.text.model.prompts import PARAPHRASE, QUESTION, Request
from annotators.text.text import Text
from schemas.errors import TransportError, UsageError
from tests.annotators.text.test_text import told
from tests.support.chat_server import chat_server
from tests.support.scripts import sample_scripts

KINDS = ("qa", "rationale", "paraphrase")


@pytest.fixture(scope="module")
def batch() -> Batch:
    return told(sample_scripts([1], 10, truth=False))


def good(_system: str, facts: dict[str, Any]) -> str:
    """Reply as an able model would; one paraphrase of three says something else, one question gives itself away."""
    if "task" in facts:
        texts = [
            "could you set the red cup on the plate",
            "place the red mug on the stove",
            "I need the red cup to be put on the plate",
        ]
        cells = [("none", "embedded_imperative"), ("same_polarity_habitual", "none"), ("none", "need_statement")]
        return json.dumps({"paraphrases": [{"text": t, "object": o, "act": a} for t, (o, a) in zip(texts, cells, strict=True)]})
    if "question" in facts:
        hint = "yes or what" if "cm from where" in facts["question"] else "tell me"
        return json.dumps({"question": f"{hint}: {facts['question'].lower()}"})
    return json.dumps({"rationale": f"The {facts['thing']} is {facts['side']} the hand, so it has to move {facts['move']}."})


def annotator(url: str, folder: Path, **more: Any) -> Text:
    return Text(TextConfig(kinds=KINDS, model=url, replies=str(folder), wait_s=0.0, **more))


def rows_of(text: Text, batch: Batch) -> list[dict[str, Any]]:
    return [r for r in check_output(text, batch, text.run(batch)).to_pylist() if r["tier"] == "model"]


def test_a_model_words_what_the_templates_know_end_to_end(batch: Batch, tmp_path: Path) -> None:
    with chat_server(good) as server:
        text = annotator(server.url, tmp_path)
        rows = rows_of(text, batch)
        calls = len(server.asked)
        again = text.run(batch)
        assert len(server.asked) == calls  # every finished call was kept
        assert len({json.dumps(a, sort_keys=True) for a in server.asked}) == calls  # and none made twice
    why = Counter((r["kind"], r["reason"]) for r in rows)
    assert why["paraphrase", None] == 2
    assert why["paraphrase", "not_round_trip"] == 1
    assert why["rationale", None] > 0
    assert why["qa", None] > 0
    assert why["qa", "not_no_hint"] > 0
    assert {r["model_fp"] for r in rows} == {Endpoint("", "tiny", 1.0).fingerprint}
    assert len({r["prompt_fp"] for r in rows}) == 3
    assert sum(r["tokens"] for r in rows) > 0
    assert again.equals(Text(text.config).run(batch))  # the server is gone; its replies are not
    recorded = Text(TextConfig(kinds=KINDS, model=f"recorded:{rows[0]['model_fp']}", replies=str(tmp_path)))
    assert recorded.run(batch).equals(again)
    assert recorded.fingerprint() == text.fingerprint() != Text(TextConfig(kinds=KINDS)).fingerprint()


def test_a_dying_server_loses_nothing_and_no_call_is_repeated(batch: Batch, tmp_path: Path) -> None:
    alive = 3
    finished = list[str]()

    def dies(system: str, facts: dict[str, Any]) -> str | int:
        if len(finished) >= alive:
            return 503
        finished.append(json.dumps(facts, sort_keys=True))
        return good(system, facts)

    with chat_server(dies) as server, pytest.raises(TransportError, match="cannot be reached") as caught:
        annotator(server.url, tmp_path, retries=1).run(batch)
    assert "run it again" in " ".join(caught.value.__notes__)
    assert len(server.asked) == alive + 2  # the call that failed was tried twice
    assert len(list(tmp_path.rglob("*.json"))) == alive
    assert not list(tmp_path.rglob("*.part"))
    with pytest.raises(TransportError):  # nobody listens there any more
        annotator(server.url, tmp_path, retries=0).run(batch)
    with chat_server(good) as server:
        table = annotator(server.url, tmp_path).run(batch)
        later = [json.dumps(a, sort_keys=True) for a in server.asked]
    assert not set(later) & set(finished)
    with chat_server(good) as server:
        assert annotator(server.url, tmp_path / "fresh").run(batch).equals(table)


class Says:
    """A model that says these things, one after the other."""

    fingerprint = "model-says"

    def __init__(self, *texts: str | Exception) -> None:
        self.texts, self.calls = list(texts), 0

    def reply(self, request: Request, attempt: int) -> Reply:
        self.calls += 1
        said = self.texts[min(self.calls, len(self.texts)) - 1]
        if isinstance(said, Exception):
            raise said
        return Reply(said, 7)


def test_failures_are_kept_apart_from_nothing_there(tmp_path: Path) -> None:
    asked = Request(QUESTION, {"question": "Why?"})
    told = {
        "reply_not_json": "no idea", "reply_breaks_schema": '{"question": 3}', "nothing_there": '{"question": ""}',
        "ok": '{"question": "How come?"}',
    }  # fmt: skip
    for outcome, text in told.items():
        model = Says(text)
        client = Client(model, tmp_path / outcome, retries=2, sleep=lambda _: None)
        answer = client.ask(asked)
        assert answer.outcome == outcome
        fine = outcome in ("ok", "nothing_there")
        assert model.calls == (1 if fine else 3)
        assert answer.tokens == 7 * model.calls
        client.ask(asked)
        assert (model.calls > 3) == (not fine)  # what failed is asked again, what was answered is not


def test_hiccups_are_waited_out_and_refusals_are_not(tmp_path: Path) -> None:
    waited = list[float]()
    model = Says(TransportError("busy"), TransportError("busy"), '{"question": "x"}')
    answer = Client(model, tmp_path, 2, 0.5, waited.append).ask(Request(QUESTION, {}))
    assert answer.outcome == "ok"
    assert waited == [0.5, 1.0]
    with chat_server(lambda _s, _f: 401) as server, pytest.raises(UsageError, match="refuses"):
        Client(open_model(server.url, 5.0), tmp_path / "b", 3, 0.0).ask(Request(QUESTION, {}))
    assert len(server.asked) == 1


def test_keys_follow_prompt_facts_and_model() -> None:
    one = Request(QUESTION, {"a": 1})
    assert one.key("m") == Request(QUESTION, {"a": 1}).key("m")
    assert len({one.key("m"), one.key("n"), Request(QUESTION, {"a": 2}).key("m"), Request(PARAPHRASE, {"a": 1}).key("m")}) == 4
    for bad in ("http://localhost/v1", "gpt", "transformers:"):
        with pytest.raises(UsageError, match="model="):
            open_model(bad, 1.0)
    with pytest.raises(UsageError, match="is recorded"):
        open_model("recorded:model-x", 1.0).reply(one, 0)


def test_a_local_model_answers_through_the_same_client(tmp_path: Path) -> None:
    """Untrained, so what it says is no JSON: the outcome says so, its fingerprint follows its weights."""
    folder = tiny_model(tmp_path / "tiny")
    model = open_model(f"transformers:{folder}", 1.0)
    assert isinstance(model, Local)
    asked = Request(QUESTION, {"question": "Why?"})
    reply = model.reply(asked, 0)
    assert reply == model.reply(asked, 0)
    assert reply.tokens > 50
    answer = Client(model, tmp_path / "replies", retries=1, sleep=lambda _: None).ask(asked)
    assert answer.outcome == "reply_not_json"
    before = model.fingerprint
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes() + b" ")
    assert model.fingerprint != before


def tiny_model(folder: Path) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    torch.manual_seed(0)
    alphabet = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"]
    raw = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>").save_pretrained(folder)
    sizes = {"vocab_size": len(alphabet), "n_positions": 420, "n_embd": 16, "n_layer": 1, "n_head": 2}
    config = GPT2Config.from_dict({**sizes, "eos_token_id": 256, "bos_token_id": 256})
    GPT2LMHeadModel(config).save_pretrained(folder, safe_serialization=True)
    return folder
