from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import IMAGE, RECIPE, made_up_frames, tiny_model

from training.loop import Trainer, normalise
from training.targets import targets_of
from trt_lane.image import ChannelOrder


def trainer(recipe=RECIPE, dropout=0.0) -> Trainer:
    torch.set_num_threads(1)
    model = tiny_model(dropout=dropout)
    return Trainer(model, targets_of(model), recipe, made_up_frames())


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_twenty_steps_on_eight_frames_lower_the_loss():
    short = trainer(replace(RECIPE, augmentation=replace(RECIPE.augmentation, warp=0, flip=0)))
    short.run(lambda t: True)
    assert short.step == len(short.losses) == 20
    assert np.mean(short.losses[-3:]) < 0.8 * np.mean(short.losses[:3])


@pytest.mark.parametrize(("parts", "dropout"), [(1, 0.2), (2, 0.0)])
def test_resumed_training_ends_as_an_uninterrupted_one(tmp_path, parts, dropout):
    recipe = replace(RECIPE, parts=parts)
    whole = trainer(recipe, dropout)
    whole.run(lambda t: True)
    first = trainer(recipe, dropout)
    first.run(lambda t: t.step < 7)
    assert first.step == 7
    torch.save(first.state(), tmp_path / "state.pt")
    torch.rand(3)  # something else draws random numbers in between
    second = trainer(recipe, dropout)
    second.resume(torch.load(tmp_path / "state.pt", weights_only=True))
    second.run(lambda t: True)
    assert same(whole.network.state_dict(), second.network.state_dict())
    assert same(whole.averaged.state_dict(), second.averaged.state_dict())
    assert whole.losses == second.losses


def test_each_epoch_shows_every_frame_once():
    recipe = replace(
        RECIPE, batch=4, augmentation=replace(RECIPE.augmentation, flip=0, warp=0, colour=0)
    )
    learner = trainer(replace(recipe, augmentation=replace(recipe.augmentation, noise=0, blur=0)))
    views = np.concatenate([learner._read(step)[0] for step in range(2, 4)])
    frames = np.stack([learner.frames[i][0] for i in range(8)])
    assert sorted(v.tobytes() for v in views) == sorted(f.tobytes() for f in frames)


def test_replicas_hold_the_same_weights_and_statistics_after_a_step():
    learner = trainer()
    learner.run(lambda t: t.step < 2)
    first, second = learner.replicas
    assert all(a is b for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert same(first.state_dict(), second.state_dict())
    assert not torch.equal(first.features[1].running_mean, torch.zeros(8))


def test_start_weights_are_where_training_begins():
    donor = trainer()
    donor.run(lambda t: t.step < 3)
    learner = trainer()
    learner.start_from(donor.averaged.state_dict())
    assert same(learner.network.state_dict(), donor.averaged.state_dict())
    assert same(learner.replicas[1].state_dict(), donor.averaged.state_dict())


def test_normalised_batch_is_what_imagespec_gives_for_a_frame():
    frame = np.random.default_rng(0).integers(0, 255, (590, 1640, 3), np.uint8)
    for order in ChannelOrder:
        spec = replace(IMAGE, order=order)
        batch = normalise(torch.from_numpy(spec.resize(frame)[None].copy()), spec)
        assert np.abs(batch[0].numpy() - spec.to_tensor(frame)).max() < 1e-6
