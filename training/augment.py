"""Changes of a training frame, with the lanes moved as the pixels are."""

from __future__ import annotations

import cv2
import numpy as np

from training.recipe import Augmentation
from trt_lane.image import ImageSpec


def augment(
    pixels: np.ndarray,
    lanes: np.ndarray,
    spec: ImageSpec,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """A changed copy of one frame and its lanes.

    Args:
        pixels: uint8 (h, w, 3) BGR at the network's size, as ImageSpec.resize gives it.
        lanes: float32 (S, P, 2) in frame pixels by slot from left to right; NaN is no point.
        spec: ties the network's pixels to the frame's.
        augmentation: how much.
        rng: the source of every draw.
    """
    motion = np.eye(3)  # frame pixels -> frame pixels
    if rng.random() < augmentation.warp:
        motion = _similarity(spec.frame_hw, augmentation, rng)
    if rng.random() < augmentation.flip:
        motion = mirror(spec.frame_hw) @ motion
        lanes = lanes[::-1]
    if not np.array_equal(motion, np.eye(3)):
        pixels, lanes = move(pixels, lanes, motion, spec)
    return _develop(pixels, augmentation, rng), lanes


def mirror(frame_hw: tuple[int, int]) -> np.ndarray:
    """The left-right flip as a 3x3 matrix on frame pixels; column 0 becomes the last column."""
    return np.array([[-1.0, 0, frame_hw[1] - 1], [0, 1, 0], [0, 0, 1]])


def move(
    pixels: np.ndarray, lanes: np.ndarray, motion: np.ndarray, spec: ImageSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Apply an affine map of the frame's pixels to a network view and to lanes.

    Lane points that leave the frame become NaN. A pure flip is exact; anything else is resampled.
    """
    view = frame_to_network(spec)
    matrix = view @ motion @ np.linalg.inv(view)
    height, width = pixels.shape[:2]
    if np.allclose(matrix, [[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]], atol=1e-9):
        moved = np.ascontiguousarray(pixels[:, ::-1])
    else:
        moved = cv2.warpAffine(
            pixels,
            matrix[:2],
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    points = lanes @ motion[:2, :2].T + motion[:2, 2]
    frame_h, frame_w = spec.frame_hw
    x, y = points[..., 0], points[..., 1]
    inside = (x >= 0) & (x <= frame_w - 1) & (y >= 0) & (y <= frame_h)  # False for NaN
    return moved, np.where(inside[..., None], points, np.nan).astype(np.float32)


def frame_to_network(spec: ImageSpec) -> np.ndarray:
    """3x3 matrix from frame pixels to network pixels as cv2.resize places them (by pixel centres).

    ImageSpec.points_to_frame is the field's plain scaling and half a network pixel off; here the
    lanes must stay on the paint when the pixels move.
    """
    height, width = spec.input_hw[0] + spec.resized_crop_top, spec.input_hw[1]
    scale_x = width / spec.frame_hw[1]
    scale_y = height / (spec.frame_hw[0] - spec.crop_top)
    shift_x = 0.5 * scale_x - 0.5
    shift_y = (0.5 - spec.crop_top) * scale_y - 0.5 - spec.resized_crop_top
    return np.array([[scale_x, 0, shift_x], [0, scale_y, shift_y], [0, 0, 1]])


def _similarity(
    frame_hw: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    height, width = frame_hw
    angle = np.deg2rad(rng.uniform(-1, 1) * augmentation.rotate_deg)
    scale = 1 + rng.uniform(-1, 1) * augmentation.scale_frac
    shift = rng.uniform(-1, 1, 2) * augmentation.shift_frac * (width, height)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    motion = np.eye(3)
    motion[:2, :2] = turn
    motion[:2, 2] = centre - turn @ centre + shift
    return motion


def _develop(
    pixels: np.ndarray, augmentation: Augmentation, rng: np.random.Generator
) -> np.ndarray:
    """Changes of colour, blur and noise; the geometry stays."""
    if rng.random() < augmentation.colour:
        pixels = cv2.LUT(pixels, _tone_curves(rng))
    if rng.random() < augmentation.blur:
        pixels = cv2.GaussianBlur(pixels, (0, 0), max(rng.random() * augmentation.blur_px, 0.1))
    if rng.random() < augmentation.noise:
        noise = rng.standard_normal(pixels.shape, np.float32)
        noise *= rng.random() * augmentation.noise_std
        pixels = np.clip(pixels + noise + 0.5, 0, 255).astype(np.uint8)
    return pixels


def _tone_curves(rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, gamma and colour balance as one table, uint8 (256, 1, 3)."""
    level = np.linspace(0, 1, 256)[:, None]
    gamma = np.exp(rng.uniform(-0.35, 0.35))
    contrast = np.exp(rng.uniform(-0.3, 0.3))
    brightness = rng.uniform(-0.12, 0.12)
    balance = np.exp(rng.uniform(-0.1, 0.1, 3))
    curves = ((level**gamma - 0.5) * contrast + 0.5 + brightness) * balance
    return np.clip(curves * 255 + 0.5, 0, 255).astype(np.uint8)[:, None, :]
