"""TrainingRecipe: every number that decides what weights come out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Augmentation:
    """How much a training frame is changed; probabilities are in [0, 1], each drawn on its own.

    Attributes:
        flip: probability of a left-right mirror; the lane slots are mirrored with it.
        warp: probability of shift + scale + rotation. Below 1 so that the network also sees the
            sharpness that the resize of ImageSpec leaves, which a second resampling softens.
        shift_frac: largest shift, as a fraction of the frame's width and height.
        scale_frac: largest change of scale.
        rotate_deg: largest rotation, about the frame's centre.
        colour: probability of a change of brightness, contrast, gamma and colour balance.
        blur: probability of a Gaussian blur of up to `blur_px` network pixels (sigma).
        noise: probability of sensor noise of up to `noise_std` grey levels.
    """

    flip: float = 0.5
    warp: float = 0.6
    shift_frac: float = 0.06
    scale_frac: float = 0.08
    rotate_deg: float = 2.5
    colour: float = 0.6
    blur: float = 0.1
    blur_px: float = 1.0
    noise: float = 0.2
    noise_std: float = 6.0

    def __post_init__(self) -> None:
        for name in ("flip", "warp", "colour", "blur", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0..1")


@dataclass(frozen=True)
class TrainingRecipe:
    """One training; the same recipe on the same frames gives the same weights on one machine.

    Attributes:
        frames: how many synthetic training frames.
        validation_frames: how many held-out frames the curve's F1 is measured on.
        validations: how often the F1 is measured on the way, evenly spread.
        steps: optimiser steps; ignored when `minutes` is given.
        minutes: training time after which the learning rate has reached its end, or None.
        learning_rate: at the top of the cosine.
        warmup: fraction of the training over which the learning rate rises.
        ema_decay: of the running mean of the weights that is kept, per step.
        gradient_norm: gradients are scaled down to this norm.
        trunk: model whose bundled weights the first layers begin with, or "" for random ones.
        parts: threads that share a batch; each has batch-norm statistics of its own part. Dropout
            repeats itself from run to run only with one part: threads draw in no fixed order.
    """

    frames: int = 12_000
    validation_frames: int = 256
    validations: int = 8
    steps: int = 10_000
    minutes: float | None = None
    batch: int = 16
    learning_rate: float = 8e-4
    weight_decay: float = 0.02
    warmup: float = 0.03
    ema_decay: float = 0.998
    gradient_norm: float = 5.0
    trunk: str = ""
    parts: int = 2
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("frames", "validation_frames", "validations", "steps", "parts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError(f"minutes is {self.minutes}; expected more than 0")
        if not 2 * self.parts <= self.batch <= self.frames:
            raise ValueError(
                f"batch is {self.batch}; expected at least 2 frames for each of {self.parts} parts "
                f"and at most all {self.frames} frames"
            )

    def progress(self, step: int, seconds: float) -> float:
        """How much of the training is over, in [0, 1]."""
        done = step / self.steps if self.minutes is None else seconds / (60 * self.minutes)
        return min(done, 1.0)

    def learning_rate_at(self, progress: float) -> float:
        """Linear warm-up, then half a cosine down to 1 % of the top."""
        if progress < self.warmup:
            return self.learning_rate * (0.02 + 0.98 * progress / self.warmup)
        fraction = (progress - self.warmup) / (1 - self.warmup)
        return self.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * fraction)) / 2)

    def to_dict(self) -> dict:
        """Plain numbers, for the checkpoint."""
        return asdict(self)
