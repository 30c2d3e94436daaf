"""FastWAM as its own privileged teacher (PFD): the same weights, with one block of the attention mask opened.

The student is the policy as LeRobot ships it: action queries see the first video frame and the actions. The teacher's action
queries also see the noised future frames. Video queries never see actions under either mask, so that the video stream's keys and
values are computed once and serve student, teacher and every draw.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pipelines.residuals.conventions import convention
from pipelines.residuals.teacher import Batch, Needs, TeacherSpec
from pipelines.residuals.teachers.common import Policy, open_policy
from schemas.errors import UsageError

MASK = "fastwam: action queries see every video frame/1"


@dataclass(frozen=True)
class FastWAMTeacher:
    """A `FastWAMPolicy` as mask teacher and student.

    Raises:
        UsageError: its first frame could see the future or its video the actions, so that the student would leak.
    """

    policy: Policy
    teacher_id: str = "fastwam"
    _contexts: dict[str, tuple[Any, Any]] = field(default_factory=dict[str, tuple[Any, Any]])

    def __post_init__(self) -> None:
        video = self.policy.config.video_dit_config
        if video["video_attention_mask_mode"] not in ("first_frame_causal", "per_frame_causal") or video["action_conditioned"]:
            raise UsageError(
                f"teacher {self.teacher_id}: with video_attention_mask_mode={video['video_attention_mask_mode']!r} and "
                f"action_conditioned={video['action_conditioned']} the student would see the future through the first frame; use a "
                "checkpoint with first_frame_causal video and no action conditioning"
            )

    @classmethod
    def open(cls, path: str, device: str = "cpu") -> "FastWAMTeacher":
        """Open a checkpoint."""
        policy = open_policy(path, "fastwam", device)
        core = policy.module.model
        frozen = tuple(m for m in (core.vae, core.text_encoder) if m is not None)
        return cls(Policy(policy.module, policy.preprocess, frozen))

    @property
    def core(self) -> Any:
        """The model inside the policy."""
        return self.policy.module.model

    @cached_property
    def spec(self) -> TeacherSpec:
        """See `TeacherSpec`."""
        config, vae = self.policy.config, self.core.vae
        (height, width), side = config.image_size, vae.upsampling_factor
        frames = (config.model_video_frames - 1) // vae.temporal_downsample_factor + 1
        own = replace(convention("fastwam"), sampler=f"shifted({config.action_scheduler['train_shift']:g})",
                      timesteps=float(config.action_scheduler["num_train_timesteps"]))  # fmt: skip
        return TeacherSpec(
            self.teacher_id, own, config.action_horizon, config.action_dim, privileged=("future_latents",),
            aux_noise={"video": (vae.z_dim, frames, height // side, width // side)},
            aux_sampler={"video": f"shifted({config.video_scheduler['train_shift']:g})"}, mask_id=MASK,
            dtype=self.policy.dtype(), attention="sdpa", libraries=("transformers", "diffusers"),
            **self.policy.hashes(FastWAMTeacher, type(self.policy.module), type(self.core), type(self.core.mot)),
        )  # fmt: skip

    @property
    def needs(self) -> Needs:
        """The action chunk and the video window of the policy."""
        return self.policy.needs()

    def prepare(self, batch: Batch) -> dict[str, Any]:
        """Encode prompt, video and state; the VAE runs once for all draws, and its first latent frame sees the first frame only."""
        ready = self.policy.batch(batch)
        if "context" not in ready and self.core.text_encoder is not None:
            ready |= self._text(list(batch["task"]))
        sample = self.policy.module._batch_to_training_sample(ready)
        inputs = self.core.build_inputs({k: v for k, v in sample.items() if k not in ("action_is_pad", "image_is_pad")})
        latents = inputs["input_latents"]
        return {
            "first_latents": latents[:, :, :1], "future_latents": latents[:, :, 1:], "context": inputs["context"],
            "context_mask": inputs["context_mask"], "action": ready["action"].float(), "action_is_pad": ready["action_is_pad"],
            "fuse": inputs["fuse_vae_embedding_in_latents"],
        }  # fmt: skip

    def encode(self, ready: Batch, aux: Mapping[str, Any]) -> Any:
        """Noise the future and run the video stream once."""
        import torch

        core, kind = self.core, self.core.torch_dtype
        clean = torch.cat([ready["first_latents"], ready["future_latents"]], 2).to(kind)
        time = (aux["tau_video"] * core.train_video_scheduler.num_train_timesteps).to(kind)
        latents = core.train_video_scheduler.add_noise(clean, aux["video"].to(kind), time)
        latents[:, :, :1] = clean[:, :, :1]
        context, mask = ready["context"].to(kind), ready["context_mask"]
        video = core.video_expert.pre_dit(
            x=latents, timestep=time, context=context, context_mask=mask, action=None, fuse_vae_embedding_in_latents=ready["fuse"]
        )
        length, each = video["tokens"].shape[1], int(video["meta"]["tokens_per_frame"])
        chunk = self.policy.config.action_horizon
        student = core._build_mot_attention_mask(length, chunk, each, latents.device)
        teacher = student.clone()
        teacher[length:, :length] = True
        cache = core.mot.prefill_video_cache(
            video["tokens"], video["freqs"], video["t_mod"], {"context": video["context"], "mask": video["context_mask"]},
            student[:length, :length],
        )  # fmt: skip
        return {"cache": cache, "length": length, "context": context, "mask": mask, False: student, True: teacher}

    def velocity(self, context: Any, a_tau: Any, tau: Any, *, privileged: bool) -> Any:
        """Run the action stream under the student's or the teacher's mask."""
        core, kind = self.core, self.core.torch_dtype
        return core._predict_action_noise_with_cache(
            a_tau.to(kind), (tau * core.train_action_scheduler.num_train_timesteps).to(kind), context["context"], context["mask"],
            context["cache"], context[privileged], context["length"],
        )  # fmt: skip

    @contextmanager
    def precise(self) -> Generator[None]:
        """Compute in float32."""
        import torch

        held = self.core.torch_dtype
        with self.policy.precise():
            self.core.torch_dtype = torch.float32
            try:
                yield
            finally:
                self.core.torch_dtype = held

    def _text(self, tasks: list[str]) -> dict[str, Any]:
        """Encode each prompt once."""
        import torch

        for task in dict.fromkeys(tasks):
            if task not in self._contexts:
                prompt = self.policy.config.prompt_template.format(task=task)
                context, mask = self.core.encode_prompt([prompt])
                self._contexts[task] = (context[0], mask[0])
        found = [self._contexts[t] for t in tasks]
        return {"context": torch.stack([c for c, _ in found]), "context_mask": torch.stack([m for _, m in found])}
