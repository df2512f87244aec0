"""One training from frames to published weights, interrupted and resumed at will."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor
from tqdm import tqdm

from training.checkpoint import load_checkpoint, save_checkpoint
from training.curve import draw_curve
from training.data import VALIDATION_FIRST, FrameCache, FrameRange, prepare
from training.loop import Trainer, has_fast_bfloat16
from training.publish import halved, publish
from training.recipe import TrainingRecipe
from training.targets import targets_of
from training.trunk import with_trunk
from training.validate import validate
from trt_lane.datasets.synthetic import Split
from trt_lane.errors import TrtLaneError
from trt_lane.model import LaneModel

SAVE_EVERY_S = 60


@dataclass(frozen=True)
class Places:
    """Where a training reads and writes: caches and checkpoints under `work`, weights in `out`."""

    work: Path
    out: Path


def train(
    model: LaneModel,
    recipe: TrainingRecipe,
    places: Places,
    workers: int,
    start: dict[str, Tensor] | None = None,
    trunk: dict[str, Tensor] | None = None,
    restart: bool = False,
) -> Path | None:
    """Train to the end of the recipe and publish the weights.

    Args:
        model: a model whose decoder has a training target.
        recipe: what to do.
        places: folders.
        workers: rendering processes.
        start: weights to begin with instead of random ones.
        trunk: weights of another network to begin the first layers with; `start` goes before.
        restart: forget the checkpoint of an interrupted training.

    Returns:
        the weights file, or None when the training was interrupted: called again with the same
        arguments it goes on.
    """
    torch.set_num_threads(1)  # Trainer's threads are the parallelism
    place = places.work / model.name
    checkpoint = place / "checkpoint.pt"
    frames, unseen = _frames(model, recipe, places.work / "frames", workers)
    trainer = Trainer(model, targets_of(model), recipe, frames, has_fast_bfloat16())
    saved = None if restart else load_checkpoint(checkpoint)
    if saved is not None:
        _check_same(checkpoint, saved, recipe, frames)
        trainer.resume(saved)
    elif start is not None:
        trainer.start_from(start)
    elif trunk is not None:
        trainer.start_from(with_trunk(trainer.network.state_dict(), trunk))

    with _deferred_interrupt() as interrupted, _progress_bar(trainer) as show:
        saved_at = time.monotonic()

        def after_step(trainer: Trainer) -> bool:
            nonlocal saved_at
            show(trainer)
            due = int(trainer.progress * recipe.validations) > len(trainer.validations)
            if due:
                f1 = validate(model, trainer.averaged, unseen).f1
                trainer.validations.append((trainer.step, f1))
                draw_curve(place / "curve.png", model.name, trainer.losses, trainer.validations)
            if due or interrupted() or time.monotonic() - saved_at > SAVE_EVERY_S:
                save_checkpoint(checkpoint, {**trainer.state(), "frames": frames.place.name})
                saved_at = time.monotonic()
            return not interrupted()

        trainer.run(after_step)
    return publish_state(trainer, unseen, places.out) if trainer.progress == 1 else None


def publish_state(trainer: Trainer, unseen: FrameCache, out: Path) -> Path:
    """Measure the averaged weights as they ship, in fp16, and write them."""
    state = halved(trainer.averaged.state_dict())
    trainer.averaged.load_state_dict(state)
    facts = {
        "minutes": round(trainer.seconds / 60, 1),
        "steps": trainer.step,
        "frames": len(trainer.frames),
        "validation_f1": round(validate(trainer.model, trainer.averaged, unseen).f1, 4),
    }
    return publish(out, trainer.model.name, state, facts)


def _frames(
    model: LaneModel, recipe: TrainingRecipe, caches: Path, workers: int
) -> tuple[FrameCache, FrameCache]:
    """Training and held-out frames, rendered where they are missing."""
    ranges = {
        "rendering to learn from": FrameRange(Split.TRAIN, 0, recipe.frames),
        "rendering to validate on": FrameRange(
            Split.TRAIN, VALIDATION_FIRST, recipe.validation_frames, full_size=True
        ),
    }
    opened = []
    for title, frames in ranges.items():
        with tqdm(desc=title, unit="shard", dynamic_ncols=True) as bar:
            opened.append(prepare(caches, model.image, frames, workers, _shown_on(bar)))
    return opened[0], opened[1]


def _shown_on(bar: tqdm) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        if bar.total is None:
            bar.total, bar.initial = total, done  # what was there before says nothing about speed
        bar.update(done - bar.n)

    return show


@contextmanager
def _progress_bar(trainer: Trainer) -> Iterator[Callable[[Trainer], None]]:
    """Steps, loss, F1 and the time left, whether the end is set by steps or by minutes."""
    timed = trainer.recipe.minutes is not None
    form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}{postfix}"  # tqdm begins a postfix with ", "
    with tqdm(
        total=1.0, initial=trainer.progress, desc="training", bar_format=form, dynamic_ncols=True
    ) as bar:
        begun_step, begun_s = trainer.step, trainer.seconds

        def show(trainer: Trainer) -> None:
            step_s = (trainer.seconds - begun_s) / (trainer.step - begun_step)
            left_s = (
                60 * trainer.recipe.minutes - trainer.seconds
                if timed
                else (trainer.recipe.steps - trainer.step) * step_s
            )
            recent = trainer.losses[-50:]
            f1 = f", F1 {trainer.validations[-1][1]:.3f}" if trainer.validations else ""
            bar.set_postfix_str(
                f"step {trainer.step}, loss {sum(recent) / len(recent):.3f}{f1}, "
                f"{max(left_s, 0) / 60:.1f} min left",
                refresh=False,
            )
            bar.update(trainer.progress - bar.n)

        yield show


@contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and `kill` end the training after the step at hand, not in the midst of it."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:  # asked twice: at once
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_same(path: Path, saved: dict, recipe: TrainingRecipe, frames: FrameCache) -> None:
    """Refuse to go on with other numbers or other frames than the checkpoint was made with."""
    differing = [
        f"{key} {saved['recipe'].get(key)}, now {value}"
        for key, value in recipe.to_dict().items()
        if saved["recipe"].get(key) != value
    ]
    if saved["frames"] != frames.place.name:
        differing.append("frames of another renderer")
    if differing:
        raise TrtLaneError(
            f"{path} is of a training with {'; '.join(differing)}; go on with the same options, "
            "or begin again with --restart"
        )
