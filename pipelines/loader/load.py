"""The one call of the read path: a mixture, a dataset or a query becomes a torch dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.lake import Lake
from catalog.tables import Catalog
from pipelines.loader.drawn import Drawn
from pipelines.loader.fields import Windows, check_keys, fields_of
from pipelines.loader.samples import SampleReader
from pipelines.mixture.choose import whole_windows
from pipelines.mixture.compile import contracts_of
from pipelines.mixture.index import Index, Split, build_index
from pipelines.mixture.manifest import Mixture, open_mixture
from pipelines.mixture.plan import InOrder, Order, PlanSource
from pipelines.selection import Selection, choose
from schemas.contract import Contract
from schemas.errors import UsageError
from schemas.mixture import WindowSpec

if TYPE_CHECKING:
    from pipelines.loader.dataset import MixtureDataset


def load(
    what: Mixture | str,
    lake: Lake | str | Path | None = None,
    *,
    windows: Windows | None = None,
    split: Split = "train",
    keys: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
    annotations: Sequence[str] = (),
    residuals: Sequence[str] = (),
) -> "MixtureDataset":
    """Return the samples of a mixture in the order of its plan, or those of a dataset step by step.

    Args:
        what: an open mixture, `mixture:NAME[@HASH]`, `dataset:NAME`, a bare name of either, or a condition on episodes.
        lake: where it is; None: `$COTRAIN_LAKE`, else `./lake`. An open mixture brings its own.
        windows: what a sample holds around its step, in seconds: a `WindowSpec`, or offsets per key like LeRobot's
            `delta_timestamps` (matched to the nearest step, as there). None: what the mixture's spec says; the step alone for a dataset.
        split: `train` follows the plan; `val` is every held-out step once, in order.
        keys: features and cameras to read; None: all that are neither privileged nor depth or segmentation.
        image_size: (height, width) to fit every picture into; None: as stored.
        annotations: annotators (`NAME` or `NAME@FINGERPRINT`) whose columns are joined as `annotation.<annotator>.<column>`.
        residuals: teachers (`NAME` or `NAME@KEY`) whose caches are joined as `residual.<teacher>.<column>`; each sample gets one of
            its frame's draws, chosen by its position. Frames that are not cached, or were changed since, are padding.

    Raises:
        UsageError: nothing has that name, `keys` or `windows` names something no dataset has, or an annotator in
            `annotations` has said nothing about it.
        LakeError: the mixture's files do not match its hash.

    Example:
        >>> dataset = load("demo", windows=WindowSpec(observation_s=(-0.1, 0.0), action_horizon_s=0.8, action_hz=20))
        >>> loader = DataLoader(dataset, batch_sampler=dataset.batches(64), collate_fn=dataset.collate, num_workers=2)
    """
    from pipelines.loader.annotated import join_annotations
    from pipelines.loader.cached import join_residuals
    from pipelines.loader.dataset import MixtureDataset

    home = what.lake if isinstance(what, Mixture) else lake if isinstance(lake, Lake) else Lake.at(lake)
    found, label = (what, what.name) if isinstance(what, Mixture) else (_find(home, what), what)
    if isinstance(found, Mixture):
        source = _of_mixture(found, label, windows, split)
    else:
        source = _of_selection(home, found, label, windows, split)
    if not len(source.order):
        raise UsageError(
            f"{label!r} has no {split} step" + ("; set split.val in its spec and mix again" if split == "val" else "")
        )
    spec, contracts, rows = source.windows, source.contracts, source.index.frame()
    fields = {dataset: fields_of(contract, spec, keys) for dataset, contract in contracts.items()}
    check_keys(contracts.values(), spec, keys)
    asked = spec if isinstance(spec, WindowSpec) else WindowSpec()
    annotated = join_annotations(Catalog(home), rows, annotations) if annotations else None
    cached = join_residuals(home, rows, contracts, found.pins, residuals) if residuals else ()
    more = (*(annotated.fields if annotated is not None else ()), *(f for c in cached for f in c.fields()), *source.drawn.fields)
    reader = SampleReader(
        home, {dataset: (*own, *more) for dataset, own in fields.items()}, asked.match, image_size, goal=asked.goal, td=asked.td,
        dropout=asked.dropout, annotated=annotated, cached=cached,
    )  # fmt: skip
    return MixtureDataset(reader, source.index, source.order, split, source.drawn)


@dataclass(frozen=True, slots=True)
class _Source:
    """Which steps there are and in which order, before anything of them is read."""

    windows: Windows
    contracts: dict[str, Contract]
    index: Index
    order: Order
    drawn: Drawn


def _of_mixture(found: Mixture, label: str, windows: Windows | None, split: Split) -> _Source:
    spec = windows or found.spec.windows
    if isinstance(spec, WindowSpec) and spec.edge == "drop" and spec != found.spec.windows:
        raise UsageError(
            f"{label!r} was not mixed with these windows, so it also draws steps that edge = 'drop' leaves out; put the windows "
            "into its spec and mix again, or choose another edge"
        )
    order = found.order(split)
    return _Source(spec, found.contracts, found.index, order, Drawn.of(found.spec, found.index, order))


def _of_selection(lake: Lake, found: Selection, label: str, windows: Windows | None, split: Split) -> _Source:
    if split != "train":
        raise UsageError(f"{label!r} is not a mixture and holds nothing out; load it without split, or mix it with split.val")
    spec, name, episodes = windows or WindowSpec(), label.removeprefix("dataset:"), found.episodes
    contracts = contracts_of(Catalog(lake), found.pins, set(episodes["dataset"].unique()))
    if isinstance(spec, WindowSpec) and spec.edge == "drop":
        episodes = whole_windows(lake, episodes, contracts, spec)
    index = build_index([(name, "train", episodes)])
    return _Source(spec, contracts, index, InOrder((PlanSource(name, name, index.items(name, "train")),)), Drawn())


def _find(lake: Lake, what: str) -> Mixture | Selection:
    selection = choose(lake, what)
    if selection.mixture is None:
        return selection
    return open_mixture(lake, selection.mixture, selection.mixture_hash)
