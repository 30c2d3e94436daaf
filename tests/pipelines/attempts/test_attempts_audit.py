"""Audits of attempts and parts without contamination, through the command."""

import json
from pathlib import Path

import polars as pl
import pytest

from catalog.lake import Lake
from pipelines.audit.ledger import read
from pipelines.cli.app import run

CARDS = ("two red cards", "a green bird", "five blue houses", "the old bridge")


def _line(question: str, thought: str, answer: str, **more) -> str:
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer, "reasoning_content": thought},
    ]
    return json.dumps({"task": question, "messages": messages, "model": "m", **more})


def _agent(path: Path, *, collapsed: bool) -> Path:
    """Forty questions with four candidates each: two by version 1, of which one fails, two by version 2, which succeed more often."""
    lines = []
    for at in range(40):
        seen = CARDS[at % 4]
        asked = f"what do you see in picture {at} of album {at * 7}: {seen}"
        for k in range(4):
            thought = "let me think" if collapsed else f"I see {seen} here"
            right = (at + k) % 2 == 0 or k > 1
            marks = [{"at": 1, "aligned": 0.95 if right else 0.1, "correct": float(right), "utility": 0.5}]
            lines.append(
                _line(asked, thought, f"answer {k}", score=float(right), version=1 + k // 2, id=f"{at}.{k}", judged=marks)
            )
    path.write_text("\n".join(lines))
    return path


def _findings(lake: Lake, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, dict]]:
    code = run(["attempts", "audit", "--json", "--lake", lake.root, *more])
    return code, {f["metric"]: f for f in json.loads(capsys.readouterr().out)["findings"]}


def test_sound_attempts_pass_and_are_in_the_ledger(lake, tmp_path, capsys):
    assert run(["attempts", "add", str(_agent(tmp_path / "a.jsonl", collapsed=False)), "--as", "agent", "--lake", lake.root]) == 0
    capsys.readouterr()
    code, found = _findings(lake, capsys, "--source", "agent")
    assert code == 0
    assert {m: f["verdict"] for m, f in found.items()} == {
        "thought_collapse": "ok", "best_of_k": "ok", "regeneration_gain": "ok", "intervention_gain": "not-measurable"
    }  # fmt: skip
    assert found["best_of_k"]["value"] == pytest.approx(0.25)
    assert found["best_of_k"]["detail"]["calibration_error"] < 0.1
    assert found["regeneration_gain"]["value"] == pytest.approx(0.5)
    _findings(lake, capsys, "--source", "agent")
    assert read(lake, "attempts:agent")["metric"].sort().to_list() == sorted(found), "once each"


def test_collapsed_thoughts_fail(lake, tmp_path, capsys):
    run(["attempts", "add", str(_agent(tmp_path / "a.jsonl", collapsed=True)), "--as", "agent", "--lake", lake.root])
    capsys.readouterr()
    code, found = _findings(lake, capsys, "--source", "agent")
    assert (code, found["thought_collapse"]["verdict"]) == (1, "fail")


def test_parts_share_no_run_of_words_and_a_benchmark_that_was_seen_is_found(lake, tmp_path, capsys):
    words = "which of the old houses near {0}river stands{0} alone today"
    asked = [f"{words.format(i // 3)} and why {i}" for i in range(30)]  # three questions each are nearly the same
    for name, questions in {
        "agent": asked,
        "seen": asked[:3],
        "fresh": ["where is the nearest post office in this town please"],
    }.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(_line(q, "hm", a, score=s) for q in questions for a, s in (("yes", 1.0), ("no", 0.0))))
        run(["attempts", "add", str(path), "--as", name, "--lake", lake.root])
    rows = {}
    for part in ("train", "test"):
        out = tmp_path / f"{part}.parquet"
        assert (
            run(["attempts", "export", str(out), "--source", "agent", "--part", part, "--test-share", "0.4", "--lake", lake.root])
            == 0
        )
        rows[part] = [r[0]["content"].split() for r in pl.read_parquet(out)["prompt"].to_list()]
    assert len(rows["train"]) + len(rows["test"]) == 30
    runs = {p: {tuple(q[i : i + 8]) for q in questions for i in range(len(q) - 7)} for p, questions in rows.items()}
    assert not runs["train"] & runs["test"]
    capsys.readouterr()
    assert _findings(lake, capsys, "--source", "agent", "--against", "seen")[1]["contamination"]["value"] == 1
    assert _findings(lake, capsys, "--source", "agent", "--against", "fresh")[1]["contamination"]["verdict"] == "ok"
