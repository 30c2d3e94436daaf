"""What all LeRobot policies share as teachers: opening a checkpoint, its own preprocessing, its hashes, and float32 on request."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.residuals.fingerprints import code_digest, digest_of, files_digest, module_tensors, tensors_digest
from pipelines.residuals.teacher import Batch, Needs
from schemas.errors import DependencyError, UsageError

IMAGES = "observation.images."
TEXTS = ("task", "episode_id", "dataset", "source")


@dataclass(frozen=True)
class Policy:
    """A LeRobot policy and the pipeline that prepares its batches.

    Attributes:
        module: the policy, in evaluation mode.
        preprocess: its `PolicyProcessorPipeline`; None: batches come normalised already.
        frozen: modules that the policy keeps out of its own parameters (a VAE, a text encoder).
    """

    module: Any
    preprocess: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    frozen: tuple[Any, ...] = ()

    @property
    def config(self) -> Any:
        """The policy's configuration."""
        return self.module.config

    def batch(self, batch: Batch) -> dict[str, Any]:
        """Return the loader's batch as the policy wants it: pictures as float in [0, 1], then through the pipeline."""
        import torch

        ready: dict[str, Any] = {}
        for key, value in batch.items():
            picture = key.startswith(IMAGES) and isinstance(value, torch.Tensor) and value.dtype == torch.uint8
            ready[key] = value.float() / 255 if picture else value
        is_pad = batch.get("action_is_pad")
        if self.preprocess is not None:
            wanted = {
                k: v for k, v in ready.items() if k.startswith("observation.") or k in ("action", "task") or k.endswith("_is_pad")
            }
            ready = dict(self.preprocess(wanted))
        action = ready.get("action")
        if action is not None:
            empty = torch.zeros(action.shape[:2], dtype=torch.bool) if is_pad is None else is_pad
            ready["action_is_pad"] = empty.to(action.device)
        return ready

    def needs(self) -> Needs:
        """Return the keys and windows that the policy's configuration states."""
        config = self.config
        observed = [*config.image_features, *(["observation.state"] if config.robot_state_feature is not None else [])]
        if config.env_state_feature is not None:
            observed.append("observation.environment_state")
        deltas: dict[str, tuple[int, ...]] = {"action": tuple(config.action_delta_indices)}
        if config.observation_delta_indices is not None:
            deltas |= {key: tuple(config.observation_delta_indices) for key in observed}
        return Needs((*observed, "action"), deltas)

    def hashes(self, adapter: type, *policy_code: type) -> dict[str, Any]:
        """Return the hashes of a `TeacherSpec`."""
        preproc, norm = pipeline_hashes(self.preprocess)
        return {
            "weights_sha": tensors_digest(*(module_tensors(m) for m in (self.module, *self.frozen))),
            "config_sha": digest_of(plain(asdict(self.config))),
            "code_sha": code_digest(adapter, Policy, *policy_code),
            "preproc_sha": preproc,
            "norm_sha": norm,
        }

    def dtype(self) -> str:
        """Return the widest type among the policy's parameters, as text."""
        kinds = {str(p.dtype).removeprefix("torch.") for p in self.module.parameters()}
        return next((k for k in ("float32", "bfloat16", "float16") if kinds == {k}), "mixed")

    @contextmanager
    def precise(self) -> Generator[None]:
        """Hold every parameter in float32 inside the block."""
        with ExitStack() as stack:
            for module in (self.module, *self.frozen):
                stack.enter_context(in_float32(module))
            yield


@contextmanager
def in_float32(module: Any) -> Generator[None]:
    """Widen a module's floating parameters and buffers, and put back the very tensors that were there."""
    import torch

    held = [(t, t.data) for t in (*module.parameters(), *module.buffers()) if t.is_floating_point() and t.dtype != torch.float32]
    try:
        for tensor, data in held:
            tensor.data = data.float()
        yield
    finally:
        for tensor, data in held:
            tensor.data = data


def open_policy(path: str, kind: str, device: str = "cpu") -> Policy:
    """Open a checkpoint folder: `config.json`, `model.safetensors` and the preprocessor that was saved beside them.

    Raises:
        UsageError: the folder is no LeRobot checkpoint, or one of another policy.
        DependencyError: the policy needs packages that are not installed.
    """
    folder = Path(path).expanduser()
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} holds no config.json; give the folder of a LeRobot checkpoint (its `pretrained_model`)")
    try:
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors

        config = PreTrainedConfig.from_pretrained(str(folder))
        if config.type != kind:
            raise UsageError(f"{folder} is a checkpoint of {config.type}, not of {kind}; write --teacher {config.type}:{folder}")
        config.device = device
        module = get_policy_class(kind).from_pretrained(str(folder), config=config)
        preprocess, _ = make_pre_post_processors(
            config, pretrained_path=str(folder), preprocessor_overrides={"device_processor": {"device": device}}
        )
    except ImportError as error:
        raise DependencyError(
            f"teacher {kind!r} needs packages that are not installed ({error}); install the extra `vla`"
        ) from error
    return Policy(module.eval(), preprocess)


def pipeline_hashes(preprocess: Any) -> tuple[str, str]:
    """Return the hash of a whole pipeline, its tokenizer's files included, and of what it does to actions."""
    steps: list[Any] = []
    norm: list[Any] = []
    for step in getattr(preprocess, "steps", ()):
        state = step.state_dict()
        steps.append([type(step).__name__, plain(step.get_config()), tensors_digest(state), _tokenizer(step)])
        modes = step.get_config().get("norm_map")
        if modes:
            acts = {k: v for k, v in state.items() if k.split(".")[0] == "action"}
            norm.append([modes.get("ACTION"), tensors_digest(acts)])
    return digest_of(steps), digest_of(norm)


def _tokenizer(step: Any) -> str:
    found = getattr(step, "input_tokenizer", None)
    if found is None:
        return ""
    backend = getattr(found, "backend_tokenizer", None)
    if backend is not None:
        return digest_of(backend.to_str())
    folder = Path(str(getattr(found, "name_or_path", "")))
    return (
        files_digest(p for p in folder.glob("*") if p.is_file())
        if folder.is_dir()
        else digest_of(sorted(found.get_vocab().items()))
    )


def plain(value: Any) -> Any:
    """Return a configuration as JSON values; what is not one of them by its text."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(v) for v in value]
    return value if isinstance(value, (str, int, bool, type(None))) else repr(value)
