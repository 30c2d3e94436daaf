"""Trains a latent action model: films in, a checkpoint folder out, with curves; stopped anywhere it goes on where it was.

The folder holds `config.json` from the beginning, `curves.jsonl` while it is trained, `resume.safetensors` with the optimiser's state every
so many seconds, and `lam.safetensors` (and `codes.safetensors`) when it is done; then there is nothing left to resume.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annotators.device import choose_device, utilisation
from annotators.latent.checkpoint import CONFIG, WEIGHTS, save, write_tensors, write_text
from annotators.latent.config import Lam
from annotators.latent.pool import Pool, Sample
from annotators.weights import load_weights
from catalog.lake import Lake
from pipelines.annotate.engine import THREADS
from pipelines.lam.films import HOLD_BYTES, Films, Visit, films_of
from pipelines.loader.prefetch import prefetch
from schemas.errors import UsageError
from schemas.ids import short_id

if TYPE_CHECKING:
    from annotators.latent.learn import Learner

FOLDER, RESUME, CURVES = "weights/latent_action", "resume.safetensors", "curves.jsonl"
MOST_LATENTS = 20_000  # that codes are fitted to


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model.

    Attributes:
        path: its folder; give it to `--checkpoint`.
        steps: made now; 0 where it was trained already.
        films: learnt from.
        pairs: learnt from, per epoch.
        loss: at the end.
        seconds: they took.
        frames_per_s: pictures that went through the model.
        wait_share: of the time, waiting for pictures.
        device_busy: share of the time in which the device worked: as the GPU's driver counts it, else the share spent in the model.
        device: where it ran.
        broken: films that do not decode, and why.
    """

    path: str
    steps: int
    films: int
    pairs: int
    loss: float | None
    seconds: float
    frames_per_s: float
    wait_share: float
    device_busy: float
    device: str
    broken: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How a training run works, whatever it learns.

    Attributes:
        cameras: which; empty: all colour cameras that are not privileged.
        hz: at most this many pictures per second; None: all.
        device: `auto`, `cpu`, `cuda` or `cuda:<number>`.
        threads: that decode and make batches; None uses the cores there are.
        hold_bytes: decoded pictures in memory.
        save_s: seconds between two states to resume from.
        curve_every: steps between two lines of the curves.
        agent: what of `segmentation.<camera>` is the agent, whose pixels then count more: values, or patterns of names; empty: none.
        stop_after: stop after this many steps of now, as if interrupted; None: go on to the end.
    """

    cameras: tuple[str, ...] = ()
    hz: float | None = None
    device: str = "auto"
    threads: int | None = None
    hold_bytes: int = HOLD_BYTES
    save_s: float = 60.0
    curve_every: int = 50
    agent: tuple[str, ...] = ()
    stop_after: int | None = None


def train_lam(
    lake: Lake, what: str = "all", lam: Lam | None = None, out: str | Path | None = None, options: TrainingOptions | None = None
) -> Trained:
    """Train on the pictures of a selection and return where the model is.

    Args:
        lake: where the episodes are.
        what: see `pipelines.selection.choose`; the half of it that evaluation reports on is left out.
        lam: the model and how it is trained.
        out: folder of the checkpoint; None: in the lake, named after all of that.
        options: how to work.

    Raises:
        UsageError: there is nothing to learn from, or the folder holds another run.
    """
    lam, options = lam or Lam(), options or TrainingOptions()
    films = films_of(lake, what, lam.model, options.cameras, options.hz, options.hold_bytes, options.agent)
    run = _Run(lam, films, _folder(lake, lam, films, out), options)
    if run.done:
        return run.report()
    run.begin()
    try:
        run.go()
    finally:
        run.keep()
    return run.report()


class _Run:
    """One call of `train_lam`."""

    def __init__(self, lam: Lam, films: Films, folder: Path, options: TrainingOptions) -> None:
        self.lam, self.films, self.folder, self.options = lam, films, folder, options
        self.device = choose_device(options.device)
        self.learner: Learner | None = None
        self.first_step, self.wait_s, self.model_s, self.seconds, self.saved = 0, 0.0, 0.0, 0.0, 0.0
        self.broken: dict[str, None] = {}
        self.gauge = list[float]()
        self.loss: float | None = None

    @property
    def document(self) -> dict[str, Any]:
        """What the run is about; another one is never mixed with it."""
        return {**self.lam.document(), "films": self.films.key}

    @property
    def done(self) -> bool:
        """Whether the folder holds the finished model of this very run.

        Raises:
            UsageError: it holds another run.
        """
        file = self.folder / CONFIG
        if not file.is_file():
            return False
        if (held := json.loads(file.read_text())) != json.loads(json.dumps(self.document)):
            wrong = sorted(k for k in {*held, *self.document} if held.get(k) != json.loads(json.dumps(self.document.get(k))))
            raise UsageError(
                f"{self.folder} holds another run (it differs in {', '.join(wrong)}); use another --out, or remove it"
            )
        return (self.folder / WEIGHTS).is_file()

    def begin(self) -> None:
        """Make the folder, and go on from its last state if it has one."""
        from annotators.latent.learn import Learner

        self.learner = Learner(self.lam, self.device)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / CONFIG, json.dumps(self.document, indent=1, sort_keys=True) + "\n")
        if (state := self.folder / RESUME).is_file():
            self.learner.resume(load_weights(state))
            self.first_step = self.learner.step
        curves = self.folder / CURVES
        lines = curves.read_text().splitlines() if curves.is_file() else []
        kept = [line for line in lines if json.loads(line)["step"] <= self.first_step]
        write_text(curves, "".join(f"{line}\n" for line in kept))

    def go(self) -> None:
        """Make every step that is left."""
        learner = self._learner
        started = self.saved = time.perf_counter()
        end = self.lam.training.steps if self.options.stop_after is None else self.first_step + self.options.stop_after
        try:
            for sample in self._samples(min(end, self.lam.training.steps)):
                began = time.perf_counter()
                costs = learner.learn(sample)
                self.model_s += time.perf_counter() - began
                self.loss = costs["loss"]
                self._log(costs, time.perf_counter() - started)
        finally:
            self.seconds = time.perf_counter() - started

    def keep(self) -> None:
        """Write the model if it is done, else the state to go on from; a step that was interrupted leaves the last state as it is."""
        learner = self._learner
        if not learner.settled:
            return
        if learner.step < self.lam.training.steps:
            write_tensors(self.folder / RESUME, learner.state())
            return
        save(self.folder, self.lam, learner.model.state_dict(), self._books(), {"films": self.films.key})
        (self.folder / RESUME).unlink(missing_ok=True)

    def report(self) -> Trained:
        """Say what was done."""
        steps = 0 if self.learner is None else self.learner.step - self.first_step
        seconds = self.seconds or 1e-9
        busy = float(np.mean(self.gauge)) if self.gauge else self.model_s / seconds
        return Trained(
            str(self.folder), steps, self.films.films, sum(self.films.pairs), self.loss, self.seconds,
            2 * self.lam.training.batch * steps / seconds, self.wait_s / seconds, busy, self.device, tuple(self.broken),
        )  # fmt: skip

    @property
    def _learner(self) -> "Learner":
        assert self.learner is not None
        return self.learner

    def _samples(self, end: int) -> Iterator[Sample]:
        """Yield the batches from the learner's step to `end`, made ahead in threads; waiting for them is counted."""
        told, threads = self.lam.training, _threads(self.options.threads)
        visits = list(self.films.visits(told.batch, told.seed, self._learner.step, end))
        pools = self.films.pools(visits, threads)
        for visit in visits:
            began = time.perf_counter()
            pool, broken = next(pools)
            self.broken |= dict.fromkeys(broken)
            self.wait_s += time.perf_counter() - began
            yield from self._made(pool, _rows(pool, visit, told.batch, told.seed), threads)

    def _made(self, pool: Pool, rows: Sequence[Any], threads: int) -> Iterator[Sample]:
        wants = self._learner.wants

        def read(position: Sequence[int]) -> dict[str, Sample]:
            return {"sample": pool.sample(rows[position[0]], **wants)}

        ahead = prefetch(
            iter([(n,) for n in range(len(rows))]),
            read,
            threads=threads if any(wants.values()) else min(threads, 1),
            ahead=threads + 1,
        )
        try:
            while True:
                began = time.perf_counter()
                made = next(ahead, None)
                self.wait_s += time.perf_counter() - began
                if made is None:
                    return
                yield made["sample"]
        finally:
            ahead.close()

    def _log(self, costs: dict[str, float], seconds: float) -> None:
        step = self._learner.step
        if step % self.options.curve_every == 0 or step == self.lam.training.steps:
            if (share := utilisation(self.device)) is not None:
                self.gauge.append(share)
            rate = 2 * self.lam.training.batch * (step - self.first_step) / seconds
            line = {"step": step, **{k: round(v, 7) for k, v in costs.items()}, "frames_per_s": round(rate, 1)}
            line |= {
                "wait_share": round(self.wait_s / seconds, 4),
                "device_busy": share if share is not None else round(self.model_s / seconds, 4),
            }
            with (self.folder / CURVES).open("a") as file:
                file.write(json.dumps(line) + "\n")
        if time.perf_counter() - self.saved > self.options.save_s:
            write_tensors(self.folder / RESUME, self._learner.state())
            self.saved = time.perf_counter()

    def _books(self) -> Any:
        """Return codes fitted to the latents of pairs that were learnt from; None where the model chooses codes itself."""
        told, model = self.lam.training, self._learner.model
        if self.lam.model.discrete or not told.derive:
            return None
        from annotators.latent.books import fit_books
        from annotators.latent.inference import ask

        visits = list(self.films.visits(told.batch, told.seed, 0, 1))
        pool, _ = next(self.films.pools(visits, _threads(self.options.threads)))
        rows = np.sort(next(pool.order(min(len(pool), MOST_LATENTS), told.seed, 0)))
        rows = rows[np.argsort(pool.first[rows], kind="stable")]
        model.eval()
        found = ask(model, pool.pictures, pool.first[rows], pool.second[rows], pool.horizon[rows], 64, self.device, judge=False)
        codes = min(told.derive, len(rows))
        return fit_books(found.value.reshape(len(rows), -1), codes, told.derive_levels, told.seed)


def _rows(pool: Pool, visit: Visit, batch: int, seed: int) -> list[Any]:
    """Return the rows of each batch of a visit; pairs come again where films that do not decode leave too few."""
    if len(pool) < batch:
        raise UsageError(f"only {len(pool)} pairs of a group decode, which is less than a batch of {batch}; see `cotrain verify`")
    rows, again = list[Any](), 0
    while len(rows) < visit.stop:
        rows += pool.order(batch, seed, visit.epoch + (again << 32))
        again += 1
    return rows[visit.skip : visit.stop]


def _folder(lake: Lake, lam: Lam, films: Films, out: str | Path | None) -> Path:
    if out is not None:
        return Path(out).expanduser()
    if not lake.is_local:
        raise UsageError(f"a model is trained into a local folder and {lake.root} is remote; name one with --out")
    return Path(lake.path(FOLDER, short_id("lam", [lam.document(), films.key])).removeprefix("file://"))


def _threads(wanted: int | None) -> int:
    return max(min((os.cpu_count() or 2) - 1, THREADS), 1) if wanted is None else wanted
