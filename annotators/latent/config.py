"""What a latent action model is and how it is trained: two flat tables of settings, three sizes of both, and their file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from schemas.errors import UsageError
from schemas.settings import parse_settings

FORMAT = "cotrain-latent-action"
PIXELS, EMA = "pixels", "ema"
Family = Literal["conv", "token"]
Bottleneck = Literal["noise", "sparse", "vq", "nsvq"]
DISCRETE = ("vq", "nsvq")


@dataclass(frozen=True, slots=True)
class LamConfig:
    """What the model is.

    Attributes:
        side: pictures are scaled to squares of this side, in pixels; a power of two.
        horizons_s: how far apart the two pictures of a pair may be; every horizon has a head of its own.
        family: `conv` (a CPU trains it) or `token` (transformers over patches or features).
        width: channels of the first convolution, or of a token.
        layers: transformer layers over one picture, over a pair, and of the decoder.
        heads: of attention.
        patch: side of a patch of pixels, for tokens.
        bottleneck: `noise` and `sparse` are continuous, `vq` and `nsvq` choose codes.
        dim: numbers per token of the latent.
        tokens: latents per pair, so that one chunk of time is a short sequence.
        codes: how many a discrete bottleneck has.
        target: what the decoder must predict: `pixels`, `ema` (features of the encoder's own slow copy), `module:function` or
            `transformers:FOLDER` (features of a frozen model, which the encoder then sees too).
        carry: whether the decoder moves what it is given along a flow it predicts, before it paints the rest.
    """

    side: int = 64
    horizons_s: tuple[float, ...] = (0.4,)
    family: Family = "conv"
    width: int = 16
    layers: tuple[int, int, int] = (6, 2, 8)
    heads: int = 8
    patch: int = 8
    bottleneck: Bottleneck = "noise"
    dim: int = 8
    tokens: int = 1
    codes: int = 64
    target: str = PIXELS
    carry: bool = True

    def __post_init__(self) -> None:
        if self.side < 16 or self.side & (self.side - 1):
            raise UsageError(f"side={self.side} must be a power of two of at least 16")
        if not self.horizons_s or min(self.horizons_s) <= 0 or list(self.horizons_s) != sorted(set(self.horizons_s)):
            raise UsageError(f"horizons_s={list(self.horizons_s)} must be positive seconds, each once, in growing order")
        if min(self.width, *self.layers, self.heads, self.patch, self.dim, self.tokens) < 1 or not 2 <= self.codes <= 1 << 15:
            raise UsageError("width, layers, heads, patch, dim and tokens must be at least 1, codes 2 to 32768")
        if self.family == "token" and (self.width % self.heads or self.width % 4 or self.side % self.patch):
            raise UsageError(
                f"width={self.width} must be a multiple of heads={self.heads} and of 4, side={self.side} of patch={self.patch}"
            )

    @property
    def discrete(self) -> bool:
        """Whether the model itself chooses codes."""
        return self.bottleneck in DISCRETE

    @property
    def frozen(self) -> bool:
        """Whether a frozen model's features are both seen and predicted."""
        return self.target not in (PIXELS, EMA)


@dataclass(frozen=True, slots=True)
class LamTraining:
    """How the model is trained.

    Attributes:
        steps: of the optimiser.
        batch: pairs per step.
        rate: highest learning rate of AdamW; it rises over `warmup` of the steps and falls along a cosine.
        warmup: share of the steps.
        decay: of weights.
        clip: largest norm of a gradient.
        seed: of weights, order, augmentation and noise.
        shift: the encoder sees each pair moved by up to this share of the side, the decoder does not; 0 for cameras on a hand.
        jitter: the encoder sees each pair brighter or darker, and with more or less contrast, by up to this share.
        motion: extra weight of pixels that change by more than `motion_above` (of 1).
        motion_above: see `motion`.
        agent: extra weight of the agent's pixels, where the dataset has a mask of it.
        beta: weight of the Kullback-Leibler term of `noise` (bits the latent may carry).
        beta_from: share of the steps after which that weight begins to rise from nothing; full after as many again.
        sparse: weight of everything that holds a `sparse` latent (and the features of `ema`) in shape.
        l1: of the sparse energy.
        flow: weight of the decoder's flow against dense optical flow (`carry`).
        warp: weight of the predicted picture, moved back along the flow, against the earlier one.
        texture: weight of gradients and of block frequencies, in the place of a perceptual loss.
        momentum: of the slow copy, at the beginning; 0.999 at the end.
        labels: weight of reading the true action off the latent, on pairs that carry one (`Pool.label`).
        derive: codes per level fitted to a continuous latent after training; 0: none.
        derive_levels: levels of residual codes.
    """

    steps: int = 600
    batch: int = 64
    rate: float = 2e-3
    warmup: float = 0.1
    decay: float = 1e-4
    clip: float = 1.0
    seed: int = 0
    shift: float = 0.3
    jitter: float = 0.1
    motion: float = 30.0
    motion_above: float = 0.08
    agent: float = 10.0
    beta: float = 1e-5
    beta_from: float = 0.3
    sparse: float = 1e-2
    l1: float = 1e-2
    flow: float = 1.0
    warp: float = 0.0
    texture: float = 0.0
    momentum: float = 0.99
    labels: float = 0.5
    derive: int = 64
    derive_levels: int = 2

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or not self.rate > 0 or not self.clip > 0:
            raise UsageError(f"steps={self.steps}, batch={self.batch}, rate={self.rate}: use 1, 2 and more than 0 at least")
        shares = {k: getattr(self, k) for k in ("warmup", "shift", "jitter", "beta_from", "momentum")}
        if wrong := {k: v for k, v in shares.items() if not 0 <= v <= 1}:
            raise UsageError(f"{wrong} must lie in 0..1")
        weights = ("decay", "motion", "agent", "beta", "sparse", "l1", "flow", "warp", "texture", "labels")
        if negative := {k: getattr(self, k) for k in weights if getattr(self, k) < 0}:
            raise UsageError(f"{negative}: weights cannot be negative")
        if self.derive == 1 or self.derive < 0 or self.derive_levels < 1:
            raise UsageError(
                f"derive={self.derive} and derive_levels={self.derive_levels}: use 0, or 2 and more codes in 1 or more levels"
            )


@dataclass(frozen=True, slots=True)
class Lam:
    """A model and its training together."""

    model: LamConfig = field(default_factory=LamConfig)
    training: LamTraining = field(default_factory=LamTraining)

    def changed(self, settings: Mapping[str, Any]) -> "Lam":
        """Return it with `key=value` settings of either table.

        Raises:
            UsageError: a setting is unknown or has the wrong type.
        """
        mine = {f.name for f in fields(LamConfig)}
        of_training, of_model = ({k: v for k, v in settings.items() if (k in mine) == side} for side in (False, True))
        model = parse_settings(LamConfig, asdict(self.model) | of_model)
        return replace(self, model=model, training=parse_settings(LamTraining, asdict(self.training) | of_training))

    def document(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"format": FORMAT, "model": asdict(self.model), "training": asdict(self.training)}

    @classmethod
    def read(cls, document: Mapping[str, Any], where: str) -> "Lam":
        """Undo `document`.

        Raises:
            UsageError: it is something else.
        """
        if document.get("format") != FORMAT:
            raise UsageError(f"{where} is no latent action model: its format is {document.get('format')!r}, not {FORMAT!r}")
        return cls(parse_settings(LamConfig, document["model"]), parse_settings(LamTraining, document["training"]))


SIZES: dict[str, Lam] = {
    "toy": Lam(),
    "small": Lam(
        LamConfig(side=128, family="token", width=512, dim=32),
        LamTraining(steps=100_000, batch=256, rate=3e-4, warmup=0.02, decay=0.05, texture=0.1),
    ),
    "base": Lam(
        LamConfig(side=256, family="token", width=768, layers=(9, 3, 12), heads=12, patch=16, dim=128),
        LamTraining(steps=50_000, batch=512, rate=1e-4, warmup=0.02, decay=0.05),
    ),
}


def sized(name: str) -> Lam:
    """Return one of the three sizes.

    Raises:
        UsageError: there is no such size.
    """
    if name not in SIZES:
        raise UsageError(f"--config {name} is unknown; use {', '.join(SIZES)}, and --set for what differs")
    return SIZES[name]
