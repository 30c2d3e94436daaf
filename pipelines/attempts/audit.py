"""Audits of attempts: collapsed thoughts, verdicts that can be trusted, gains that are real, questions that training has seen."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annotators.embeddings.encoders import Default
from catalog.lake import Lake
from pipelines.attempts.stage import read_attempts
from pipelines.audit.ledger import Finding, record
from schemas.ids import digest, short_id
from transforms.attempts.interventions import interventions
from transforms.attempts.judged import candidates, selection
from transforms.attempts.questions import questions
from transforms.attempts.regenerations import mean_gain, regenerations
from transforms.attempts.thoughts import collapse, situations
from transforms.attempts.tree import Tree, open_tree
from transforms.intervals import Interval, share_difference
from transforms.language.contamination import contamination, names

CODE = "1"  # raise when the figures for the same attempts change
CLASSES = 8  # of similar thoughts and states
LEAST = 20  # thoughts from which a collapse can be told
TRUSTED = 0.1  # expected calibration error up to which a verdict is taken at its word


def audit_attempts(lake: Lake, source: str, against: str = "") -> list[Finding]:
    """Audit the attempts called `source` and write what was found to the ledger; the same audit twice is one row.

    Args:
        lake: where they are.
        source: their name; empty: all.
        against: name of attempts whose questions must not be among them, such as a benchmark's; empty: not asked.

    Raises:
        UsageError: there are no such attempts.
    """
    nodes = read_attempts(lake, source)
    tree = open_tree(nodes)
    findings = [_thoughts(tree), _verdicts(tree), _regenerated(tree), _intervened(tree)]
    content = [_content(nodes)]
    if against:
        other = read_attempts(lake, against)
        findings.append(_seen(tree, open_tree(other), against))
        content.append(_content(other))
    subject = f"attempts:{source or 'all'}"
    record(lake, subject, digest(content), short_id("fp", ["attempts", against, CODE]), findings)
    return findings


def _thoughts(tree: Tree) -> Finding:
    found = situations(tree)
    states = {told for _, _, told in found}
    if len(found) < LEAST or len(states) < 2:
        text = f"{len(found)} thoughts in {len(states)} different situations; {LEAST} in 2 are needed to tell whether they depend on them"
        return Finding("thought_collapse", None, None, len(found), "not-measurable", text)
    thoughts = [thought for _, thought, _ in found]
    made = collapse(thoughts, _classes(thoughts), _classes([told for _, _, told in found]))
    chance = float(np.quantile(made.null, 0.95))
    text = (
        f"thoughts {'have collapsed' if made.collapsed else 'depend on the situation'}: entropy {made.entropy:.2f} nats, "
        f"{made.information:.2f} nats about the situation, {chance:.2f} by chance"
    )
    detail = {"entropy": made.entropy, "null_95": chance, "situations": len(states)}
    return Finding("thought_collapse", made.information, None, len(found), "fail" if made.collapsed else "ok", text, detail)


def _verdicts(tree: Tree) -> Finding:
    made = selection(list(candidates(tree)))
    if made is None:
        return Finding("best_of_k", None, None, 0, "not-measurable", "no candidates with both a verdict `aligned` and an outcome")
    text = (
        f"the candidates a verifier prefers succeed {made.best:.0%} of the time, all of them {made.mean:.0%}, over {made.n[0]} choices; its "
        f"probabilities are off by {made.error:.2f}"
    )
    verdict = _verdict(made.ci95)
    verdict = "warn" if verdict == "ok" and made.error > TRUSTED else verdict
    return Finding("best_of_k", made.gain, made.ci95, made.n[0], verdict, text, {"calibration_error": made.error})


def _regenerated(tree: Tree) -> Finding:
    found = list(regenerations(tree))
    if not found:
        return Finding("regeneration_gain", None, None, 0, "not-measurable", "no two versions attempted the same question")
    mean, ci95 = mean_gain(found)
    trees = len({r.tree for r in found})
    text = f"attempts written anew by a later version gain {mean:+.3f} in the mean of {trees} questions"
    return Finding("regeneration_gain", mean, ci95, trees, _verdict(ci95), text)


def _intervened(tree: Tree) -> Finding:
    found = [i for i in interventions(tree) if i.gain is not None]
    if not found:
        return Finding("intervention_gain", None, None, 0, "not-measurable", "no intervention beside a judged attempt without it")
    once = {i.inserted: (i.won[0], i.n[0]) for i in found}, {i.original: (i.won[1], i.n[1]) for i in found}
    after, before = ((sum(w for w, _ in c.values()), sum(n for _, n in c.values())) for c in once)
    gain, ci95 = after[0] / after[1] - before[0] / before[1], share_difference(after, before)
    text = f"{after[0]} of {after[1]} attempts succeed after an intervention, {before[0]} of {before[1]} without it"
    return Finding("intervention_gain", gain, ci95, len(once[0]), _verdict(ci95), text)


def _seen(tree: Tree, other: Tree, name: str) -> Finding:
    mine, theirs = list(questions(tree).values()), list(questions(other).values())
    found, named = contamination(theirs, mine), contamination(theirs, mine, names)
    text = f"{len(found.places)} of {len(theirs)} questions of {name} share a run of words with these" + (
        f", such as {found.shared[0]!r}" if found.shared else ""
    )
    detail = {"names_rate": named.rate, "places": list(found.places[:100])}
    return Finding("contamination", found.rate, None, len(theirs), "fail" if found.places else "ok", text, detail)


def _verdict(ci95: Interval | None) -> str:
    """Judge a gain: `ok` where its whole interval lies above 0, `fail` where it lies below."""
    if ci95 is None or ci95[0] <= 0 <= ci95[1]:
        return "warn"
    return "ok" if ci95[0] > 0 else "fail"


def _classes(texts: list[str]) -> npt.NDArray[np.int64]:
    """Return classes of similar texts, int64[N]: by their spelling, so that no two need be the same."""
    from sklearn.cluster import KMeans

    vectors = Default().texts(texts, "cpu").astype(np.float64)
    count = min(CLASSES, len(set(texts)))
    return KMeans(count, random_state=0).fit_predict(vectors).astype(np.int64)


def _content(nodes: pa.Table) -> str:
    return digest(sorted(nodes.column("node").to_pylist()))
