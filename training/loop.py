"""The training loop: one state that can stop after any step and go on as if it had not.

A batch is cut into parts, and each part has a thread and a core of its own for a whole step. Cores
that share every single convolution instead wait for each other hundreds of times per step, which is
ten times slower as soon as anything else runs on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from training.augment import augment
from training.data import FrameCache
from training.recipe import TrainingRecipe
from trt_lane.image import ChannelOrder, ImageSpec
from trt_lane.model import LaneModel


class Trainer:
    """A training in progress.

    Attributes:
        step: optimiser steps done.
        seconds: time spent in steps, over all runs.
        losses: of every step so far.
        validations: (step, F1) of every validation so far; the caller appends.
        averaged: the network with the running mean of the weights: what is validated and shipped.
    """

    def __init__(
        self,
        model: LaneModel,
        target: ModuleType,
        recipe: TrainingRecipe,
        frames: FrameCache,
        bfloat16: bool = False,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.model, self.target, self.recipe, self.frames = model, target, recipe, frames
        # Convolutions on a CPU run fastest with the channels innermost.
        self.network = model.network().to(memory_format=torch.channels_last).train()
        self.averaged = deepcopy(self.network).eval().requires_grad_(False)
        others = [_sharing_parameters(self.network) for _ in range(recipe.parts - 1)]
        self.replicas = [self.network, *others]
        self.optimiser = torch.optim.AdamW(_parameter_groups(self.network, recipe), lr=0.0)
        self.bfloat16 = bfloat16
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []
        self.validations: list[tuple[int, float]] = []
        self._learners = ThreadPoolExecutor(recipe.parts)
        self._reader = ThreadPoolExecutor(1)  # makes the next batch while this one is learnt
        self._next: tuple[int, Future] | None = None

    @property
    def progress(self) -> float:
        """How much of the training is over, in [0, 1]."""
        return self.recipe.progress(self.step, self.seconds)

    def start_from(self, state: dict[str, Tensor]) -> None:
        """Begin with these weights instead of random ones."""
        for replica in (*self.replicas, self.averaged):
            replica.load_state_dict(state)

    def run(self, after_step: Callable[[Trainer], bool]) -> None:
        """Train to the end of the recipe, or until `after_step` returns False."""
        while self.progress < 1:
            start = time.monotonic()
            self._one_step()
            self.seconds += time.monotonic() - start
            if not after_step(self):
                break

    def state(self) -> dict:
        """All that decides the rest of the training; copies nothing."""
        return {
            "recipe": self.recipe.to_dict(),
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "step": self.step,
            "seconds": self.seconds,
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "validations": torch.tensor(self.validations, dtype=torch.float64),
        }

    def resume(self, state: dict) -> None:
        """Go on from `state()`."""
        for replica in self.replicas:
            replica.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.losses = state["losses"].tolist()
        self.validations = [(int(step), f1) for step, f1 in state["validations"].tolist()]

    def _one_step(self) -> None:
        images, targets = self._batch(self.step)
        parts = self.recipe.parts
        jobs = [
            self._learners.submit(
                self._gradients,
                replica,
                images[part::parts].contiguous(memory_format=torch.channels_last),
                {name: target[part::parts] for name, target in targets.items()},
            )
            for part, replica in enumerate(self.replicas)
        ]
        losses, gradients = zip(*(job.result() for job in jobs), strict=True)
        parameters = list(self.network.parameters())
        for parameter, *of_parts in zip(parameters, *gradients, strict=True):
            parameter.grad = sum(of_parts) / parts
        nn.utils.clip_grad_norm_(parameters, self.recipe.gradient_norm)
        rate = self.recipe.learning_rate_at(self.progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.step += 1
        self._unite_statistics()
        self._average()
        self.losses.append(sum(losses) / parts)

    def _gradients(
        self, replica: nn.Module, images: Tensor, targets: dict[str, Tensor]
    ) -> tuple[float, tuple[Tensor, ...]]:
        """Loss of one part of the batch and its gradient by every parameter."""
        with autocast(self.bfloat16):
            heads = replica(images)
        heads = {name: head.float() for name, head in heads.items()}
        loss = self.target.loss(self.model, heads, targets)
        return loss.item(), torch.autograd.grad(loss, list(replica.parameters()))

    @torch.no_grad()
    def _unite_statistics(self) -> None:
        """Give all replicas the mean of their batch-norm statistics."""
        for same in zip(*(replica.buffers() for replica in self.replicas), strict=True):
            if same[0].is_floating_point():
                same[0].copy_(sum(same) / len(same))
            for other in same[1:]:
                other.copy_(same[0])

    @torch.no_grad()
    def _average(self) -> None:
        # Early on a long memory would only hold the random start.
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        running = self.averaged.state_dict()
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                running[name].lerp_(value, 1 - decay)
            else:
                running[name].copy_(value)

    def _batch(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The batch of a step, which depends on nothing but recipe, frames and step."""
        ready = self._next
        pending = ready[1] if ready and ready[0] == step else self._submit(step)
        views, targets = pending.result()
        self._next = (step + 1, self._submit(step + 1))
        images = normalise(torch.from_numpy(views), self.model.image)
        return images, {name: torch.from_numpy(value) for name, value in targets.items()}

    def _submit(self, step: int) -> Future:
        return self._reader.submit(self._read, step)

    def _read(self, step: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        recipe, views, targets = self.recipe, [], []
        for position in range(step * recipe.batch, (step + 1) * recipe.batch):
            epoch, place = divmod(position, len(self.frames))
            index = int(_order(recipe.seed, epoch, len(self.frames))[place])
            rng = np.random.default_rng([recipe.seed, epoch, index])
            pixels, lanes = augment(*self.frames[index], self.model.image, recipe.augmentation, rng)
            views.append(pixels)
            targets.append(self.target.targets(self.model, lanes))
        return np.stack(views), {k: np.stack([t[k] for t in targets]) for k in targets[0]}


def normalise(views: Tensor, spec: ImageSpec) -> Tensor:
    """Network input float32 (N, 3, h, w) of uint8 BGR views (N, h, w, 3), as ImageSpec.to_tensor.

    The memory stays channels-last, which is how the views lie.
    """
    scale, offset = (torch.from_numpy(v) for v in spec.affine())
    if spec.order is ChannelOrder.RGB:
        scale, offset = scale.flip(0), offset.flip(0)
    images = (views.float() * scale + offset).permute(0, 3, 1, 2)
    if spec.order is ChannelOrder.RGB:
        images = images.flip(1)
    return images.contiguous(memory_format=torch.channels_last)


def autocast(bfloat16: bool) -> torch.autocast | nullcontext:
    """Convolutions in bfloat16 where the processor multiplies it natively."""
    # The cache of cast weights is shared by all threads; every weight is used once per step anyway.
    return torch.autocast("cpu", torch.bfloat16, cache_enabled=False) if bfloat16 else nullcontext()


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 natively; elsewhere it is emulated and slow."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _sharing_parameters(network: nn.Module) -> nn.Module:
    """A copy that has its own buffers and the very same parameters."""
    replica = deepcopy(network)
    for own, shared in zip(replica.modules(), network.modules(), strict=True):
        own._parameters.update(shared._parameters)
    return replica


def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def _parameter_groups(network: nn.Module, recipe: TrainingRecipe) -> list[dict]:
    """Weight decay on matrices and kernels only: biases and BN scales need their size."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    return [
        {"params": kernels, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
