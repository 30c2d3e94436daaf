"""Does the instruction say anything that the picture does not? The information-collapse audit.

It estimates I(action; language | vision) from the language side, nested and cross-fitted: log p(l | v, a) - log p(l | v), where the
second model is the first one's fixed offset. Two densities of actions fitted independently would report information where there is
none. The cross-entropy of l given v bounds what there can be and is always reported beside the estimate.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from annotators.evaluation import ratio
from pipelines.fit.nets import batches, mlp
from transforms.coverage import entropy
from transforms.noise import raw

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
COLLAPSED_INDEX, COLLAPSED_NATS = 0.9, 0.2


@dataclass(frozen=True, slots=True)
class CollapseConfig:
    """How the two models are fitted.

    Attributes:
        folds: parts the components are divided into; each is scored by models that never saw it.
        hidden: width of the two hidden layers.
        epochs: at most; training stops when a held-back eighth no longer improves.
        patience: epochs without improvement before it stops.
        batch: samples per step.
        permutations: fits on shuffled instructions for the null.
        seed: of everything random.
    """

    folds: int = 2
    hidden: int = 256
    epochs: int = 80
    patience: int = 8
    batch: int = 256
    permutations: int = 3
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Collapse:
    """What was found.

    Attributes:
        pmi: float64[N], pointwise information of each sample in nats, held out.
        information: its mean, the estimate of I(action; language | vision) in nats.
        ci95: interval over components; None where there is only one.
        bound: cross-entropy of language given vision, held out: an upper bound in nats.
        entropy: of the instructions, in nats.
        index: `1 - bound / entropy`: 1 where the picture tells the instruction.
        null: float64[P], estimates with instructions shuffled among samples that look alike.
        verdict: `collapsed`, `unused` or `used`.
    """

    pmi: F64
    information: float
    ci95: tuple[float, float] | None
    bound: float
    entropy: float
    index: float
    null: F64
    verdict: str


def audit_collapse(seen: F64, said: I64, done: F64, component: I64, config: CollapseConfig | None = None) -> Collapse:
    """Run the audit on float64[N, V] vision, int64[N] instruction classes, float64[N, A] action chunks and int64[N] components."""
    config = config or CollapseConfig()
    pmi, surprise = _estimate(seen, said, done, component, config)
    null = np.array([_null(seen, said, done, component, config, n) for n in range(config.permutations)])
    spread, bound = entropy(np.bincount(said)), float(surprise.mean())
    index = 1 - bound / spread if spread > 0 else 1.0
    _, place = np.unique(component, return_inverse=True)
    information, ci95 = ratio(np.bincount(place, pmi).astype(np.float64), np.bincount(place).astype(np.float64))
    collapsed = index > COLLAPSED_INDEX or bound < COLLAPSED_NATS
    verdict = "collapsed" if collapsed else "used" if ci95 is not None and ci95[0] > 0 else "unused"
    return Collapse(pmi, information, ci95, bound, spread, index, null, verdict)


def _estimate(seen: F64, said: I64, done: F64, component: I64, config: CollapseConfig) -> tuple[F64, F64]:
    """Return the pointwise information and the surprise -log p(l | v) of every sample, each from models fitted on other folds."""
    classes, fold = int(said.max()) + 1, _folds(component, config.folds, config.seed)
    both = np.concatenate([seen, done], axis=1)
    pmi, surprise, none = np.zeros(len(said)), np.zeros(len(said)), np.zeros((len(said), classes))
    for number in range(config.folds):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if not len(test):
            continue
        offset = none.copy()
        inner = _folds(component[train], 2, config.seed + 1)
        for half in (0, 1):  # the residual model must see offsets that are as surprised as they will be when it is used
            if (inner == half).all() or not (inner == half).any():
                offset[train] = _log_softmax(_fit(seen, said, none, train, config, 2 + half))[train]
                continue
            model = _log_softmax(_fit(seen, said, none, train[inner == half], config, half))
            offset[train[inner != half]] = model[train[inner != half]]
        whole = _log_softmax(_fit(seen, said, none, train, config, 4))
        offset[test] = whole[test]
        nested = _log_softmax(_fit(both, said, offset, train, config, 5))
        told = whole[test, said[test]]
        pmi[test], surprise[test] = nested[test, said[test]] - told, -told
    return pmi, surprise


def _fit(inputs: F64, said: I64, offset: F64, train: I64, config: CollapseConfig, number: int) -> F64:
    """Return the logits float64[N, K] of a classifier on top of `offset`, trained on `train`, stopped on a held-back eighth of it."""
    import torch

    seed = config.seed * 17 + number
    net = mlp((inputs.shape[1], config.hidden, config.hidden, offset.shape[1]), seed, zero_last=True)
    x, y, base = torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(said), torch.from_numpy(offset.astype(np.float32))
    check, own = train[::8], np.delete(train, np.s_[::8])
    own = own if len(own) else train
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-2)

    def loss(rows: I64) -> Any:
        return torch.nn.functional.cross_entropy(net(x[rows]) + base[rows], y[rows])

    with torch.no_grad():
        best, kept, bad = float(loss(check)), {k: v.clone() for k, v in net.state_dict().items()}, 0
    size = min(config.batch, max(len(own) // 10, 1))  # few samples still make several steps an epoch
    per_epoch = max(len(own) // size, 1)
    for step, picked in enumerate(batches(len(own), size, per_epoch * config.epochs, seed), 1):
        value = loss(own[picked])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        if step % per_epoch:
            continue
        with torch.no_grad():
            now = float(loss(check))
        if now < best - 5e-4:
            best, kept, bad = now, {k: v.clone() for k, v in net.state_dict().items()}, 0
        elif (bad := bad + 1) > config.patience:
            break
    net.load_state_dict(kept)
    with torch.no_grad():
        return (net(x) + base).numpy().astype(np.float64)


def _null(seen: F64, said: I64, done: F64, component: I64, config: CollapseConfig, number: int) -> float:
    """Estimate once more with instructions shuffled among samples that look alike: what the estimator reports of nothing."""
    from sklearn.cluster import KMeans

    clusters = max(min(len(said) // 50, 20), 1)
    cluster = KMeans(clusters, random_state=config.seed).fit_predict(seen)
    key = raw([config.seed], 100 + number, len(said))[0]
    shuffled = said.copy()
    for c in range(clusters):
        own = np.flatnonzero(cluster == c)
        shuffled[own] = said[own[np.argsort(key[own], kind="stable")]]
    return float(_estimate(seen, shuffled, done, component, config)[0].mean())


def _folds(component: I64, folds: int, seed: int) -> I64:
    """Divide components evenly: their order is a keyed shuffle, then they are dealt out."""
    names, place = np.unique(component, return_inverse=True)
    order = np.argsort(raw([seed], 7, len(names))[0], kind="stable")
    dealt = np.empty(len(names), np.int64)
    dealt[order] = np.arange(len(names)) % folds
    return dealt[place]


def _log_softmax(logits: F64) -> F64:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
