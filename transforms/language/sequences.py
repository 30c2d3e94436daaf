"""Sequences of acts (verb, noun): what always comes before what, which pairs never occur, sequences that break it, and ED@Z."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.errors import UsageError

Act = tuple[str, str]
Violation = tuple[str, str, str]  # kind, what, what
EXPECTED = 5.0  # a pair that chance alone would bring this often is missing by chance in fewer than 1 of 100 cases


@dataclass(frozen=True, slots=True)
class Constraints:
    """What sequences of a dataset keep to.

    Attributes:
        before: pairs of verbs; between two of the second, and before the first of it, comes the first, on the same noun.
        pairs: what may go together, as (verb, noun): seen, or too rare to tell; any other pair of known words is implausible.
    """

    before: tuple[tuple[str, str], ...] = ()
    pairs: tuple[Act, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing was learnt."""
        return not self.before and not self.pairs


def mine(sequences: Sequence[Sequence[Act]], support: int = 20, confidence: float = 0.98) -> Constraints:
    """Learn constraints (PlausiVL's temporal and verb-noun ones).

    Args:
        sequences: acts in order, one sequence per episode.
        support: a pair of verbs counts from this many occurrences of the second on.
        confidence: and if at least this share of them follows the first.
    """
    seen, led = Counter[str](), Counter[tuple[str, str]]()
    for sequence in sequences:
        for at, (verb, noun) in enumerate(sequence):
            seen[verb] += 1
            led.update((earlier, verb) for earlier in _since_last(sequence, at, noun))
    before = tuple(sorted(p for p, n in led.items() if seen[p[1]] >= support and n >= confidence * seen[p[1]]))
    return Constraints(before, _allowed([a for s in sequences for a in s if a[1]]))


def violations(sequence: Sequence[Act], known: Constraints) -> tuple[Violation, ...]:
    """Return every constraint a sequence breaks: `order` (first, second), `pair` (verb, noun)."""
    found = list[Violation]()
    verbs, nouns = {v for v, _ in known.pairs}, {n for _, n in known.pairs}
    allowed = set(known.pairs)
    for at, (verb, noun) in enumerate(sequence):
        led = _since_last(sequence, at, noun)
        found += [("order", a, b) for a, b in known.before if b == verb and a not in led]
        if known.pairs and verb in verbs and noun in nouns and (verb, noun) not in allowed:
            found.append(("pair", verb, noun))
    return tuple(found)


def corrupt(sequence: Sequence[Act], known: Constraints, draw: Callable[[int], int]) -> tuple[tuple[Act, ...], Violation] | None:
    """Return a sequence one edit away (two acts swapped, or one noun exchanged) that breaks a constraint, and which one.

    None where no single edit breaks any. The edit is drawn among all that do.
    """
    acts, options = list(sequence), list[tuple[tuple[Act, ...], Violation]]()
    for i in range(len(acts)):
        for j in range(i + 1, len(acts)):
            swapped = [*acts]
            swapped[i], swapped[j] = acts[j], acts[i]
            options += [(tuple(swapped), v) for v in violations(swapped, known)[:1]]
        for noun in sorted({n for _, n in known.pairs} - {acts[i][1]}):
            other = [*acts]
            other[i] = (acts[i][0], noun)
            options += [(tuple(other), v) for v in violations(other, known) if v[0] == "pair"][:1]
    return options[draw(len(options))] if options else None


def repetition_weights(sequence: Sequence[Act]) -> tuple[int, ...]:
    """Return how often each act's verb and noun had occurred before it, summed: what L_rep weighs repetition by."""
    verbs, nouns, weights = Counter[str](), Counter[str](), list[int]()
    for verb, noun in sequence:
        weights.append(verbs[verb] + nouns[noun])
        verbs[verb] += 1
        nouns[noun] += 1
    return tuple(weights)


def edit_distance(one: Sequence[object], other: Sequence[object]) -> int:
    """Return the Levenshtein distance: acts inserted, left out or exchanged."""
    row = list(range(len(other) + 1))
    for i, mine in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, theirs in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (mine != theirs))
    return row[-1]


def ed_at_z(guesses: Sequence[Sequence[object]], truth: Sequence[object], z: int = 20) -> float:
    """Return ED@Z: the least edit distance of the guesses to the first `z` acts that came, over their number.

    Raises:
        UsageError: there is no guess, no truth, or `z` is below 1.
    """
    if z < 1 or not guesses or not truth:
        raise UsageError(f"ED@Z needs z >= 1, a guess and a truth; got z={z}, {len(guesses)} guesses, {len(truth)} acts")
    came = list(truth[:z])
    return min(edit_distance(list(g[: len(came)]), came) for g in guesses) / len(came)


def _allowed(acts: list[Act]) -> tuple[Act, ...]:
    """Return the pairs of words that were seen, and those whose absence says little: fewer than five were to be expected by chance."""
    verbs, nouns, seen = Counter(v for v, _ in acts), Counter(n for _, n in acts), set(acts)
    return tuple(sorted((v, n) for v in verbs for n in nouns if (v, n) in seen or verbs[v] * nouns[n] < EXPECTED * len(acts)))


def _since_last(sequence: Sequence[Act], at: int, noun: str) -> set[str]:
    """Verbs on the same noun before `at`, back to the last time its own verb was used on it."""
    found = set[str]()
    for verb, other in reversed(sequence[:at]):
        if other != noun:
            continue
        if verb == sequence[at][0]:
            break
        found.add(verb)
    return found
