"""A frame that is drawn on in pixels of the 590 x 1640 frame, whatever its own size."""

from functools import lru_cache

import cv2
import numpy as np

from trt_lane.datasets._road_geometry import FULL_HEIGHT_PX, FULL_WIDTH_PX

_SHIFT = 4  # sixteenths of a pixel: cv2's fixed-point coordinates
_LIMIT_PX = 20000.0
_TINY_PX = 0.6


class Canvas:
    """A BGR image with the drawing calls that the renderer needs; changes in place.

    Pixel i of a smaller frame lies where cv2.resize puts it: at full pixel (i + .5) / scale - .5.
    """

    def __init__(self, frame_hw: tuple[int, int]):
        self.pixels = np.zeros((*frame_hw, 3), np.uint8)
        self.scale = np.array([frame_hw[1] / FULL_WIDTH_PX, frame_hw[0] / FULL_HEIGHT_PX])

    @property
    def rows_px(self) -> np.ndarray:
        """Full-frame row of every pixel row."""
        return (np.arange(self.pixels.shape[0]) + 0.5) / self.scale[1] - 0.5

    @property
    def cols_px(self) -> np.ndarray:
        """Full-frame column of every pixel column."""
        return (np.arange(self.pixels.shape[1]) + 0.5) / self.scale[0] - 0.5

    def own_pixels(self, points_px) -> np.ndarray:
        """Full-frame points to this frame's pixels."""
        return np.asarray(points_px, np.float64) * self.scale + (0.5 * self.scale - 0.5)

    def fill(self, polygon_px, colour) -> None:
        """Fill a polygon, (P, 2)."""
        fill_polygon(self.pixels, self.own_pixels(polygon_px), colour)

    def fill_all(self, points_px: np.ndarray, lengths: list[int], colours: list) -> None:
        """Fill polygons in order, given as one array; those out of sight or too small are left out.

        Args:
            points_px: (sum of lengths, 2), the polygons' corners one after another.
            lengths: number of corners of each polygon.
            colours: one for each polygon.
        """
        points = self.own_pixels(points_px)
        starts = np.cumsum([0, *lengths[:-1]])
        low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
        frame_wh = self.pixels.shape[1::-1]
        seen = (high > 0).all(1) & (low < frame_wh).all(1) & ((high - low).max(1) > _TINY_PX)
        fixed = _fixed_point(points)
        for k in np.flatnonzero(seen):
            polygon = fixed[starts[k] : starts[k] + lengths[k]]
            cv2.fillPoly(self.pixels, [polygon], colours[k], cv2.LINE_AA, _SHIFT)

    def line(self, points_px, colour, width_px: float) -> None:
        """Draw a polyline at least one own pixel wide, fainter when it is thinner than that."""
        points = _fixed_point(self.own_pixels(points_px))
        width = max(1, round(width_px * self.scale[0]))
        cv2.polylines(self.pixels, [points], False, colour, width, cv2.LINE_AA, _SHIFT)

    def blend(self, polygons_px, colour, opacity: float, wear: float = 0.0, seed: int = 0) -> None:
        """Lay polygons over the image with an opacity that wear breaks up."""
        polygons = [self.own_pixels(p) for p in polygons_px]
        corners = np.concatenate(polygons)
        corner = np.maximum(np.floor(corners.min(0)), 0).astype(int)
        end = np.minimum(np.ceil(corners.max(0)) + 1, self.pixels.shape[1::-1]).astype(int)
        if (end <= corner).any():
            return
        mask = np.zeros((end - corner)[::-1], np.uint8)
        for polygon in polygons:
            fill_polygon(mask, polygon - corner, 255)
        alpha = mask.astype(np.float32) * (opacity / 255)
        if wear:
            spots = cv2.resize(noise_tile(1)[seed % 400 :][:48, :48], mask.shape[::-1])
            alpha *= np.clip(1.25 - wear * (1 + spots), 0, 1)
        part = self.pixels[corner[1] : end[1], corner[0] : end[0]]
        part[:] = part + alpha[..., None] * (np.float32(colour) - part)

    def paste(self, pyramid: tuple[np.ndarray, ...], tint, add, corner_px, size_px) -> None:
        """Scale a BGRA sprite, given with its halved copies, to a box of the full frame.

        Its colours are multiplied by tint and raised by add; its alpha lays it over the image.
        """
        x0, y0 = self.own_pixels(corner_px)
        w, h = np.asarray(size_px) * self.scale
        left, top = max(0, int(np.floor(x0))), max(0, int(np.floor(y0)))
        right = min(self.pixels.shape[1], int(np.ceil(x0 + w)))
        bottom = min(self.pixels.shape[0], int(np.ceil(y0 + h)))
        if right <= left or bottom <= top or w < 1 or h < 1:
            return
        side = pyramid[0].shape[0]
        octave = int(np.log2(max(1.0, side / max(w, h))))
        sprite = pyramid[min(octave, len(pyramid) - 1)]
        side = sprite.shape[0]
        move = np.float32([[w / side, 0, x0 - left], [0, h / side, y0 - top]])
        patch = cv2.warpAffine(sprite, move, (right - left, bottom - top)).astype(np.float32)
        part = self.pixels[top:bottom, left:right]
        colours = np.minimum(patch[..., :3] * np.float32(tint) + np.float32(add), 255)
        part[:] = part + patch[..., 3:] * np.float32(1 / 255) * (colours - part)


def fill_polygon(image: np.ndarray, points: np.ndarray, colour) -> None:
    """Antialiased fill, points in the image's own pixels."""
    cv2.fillPoly(image, [_fixed_point(points)], colour, cv2.LINE_AA, _SHIFT)


def _fixed_point(points: np.ndarray) -> np.ndarray:
    fixed = np.minimum(np.maximum(points, -_LIMIT_PX), _LIMIT_PX) * 2**_SHIFT
    return np.rint(fixed).astype(np.int32)


@lru_cache(maxsize=8)
def noise_tile(power: int) -> np.ndarray:
    """A 512 x 512 tileable noise, mean 0, deviation 1; its spectrum falls with frequency**power."""
    rng = np.random.default_rng([512, power])
    spectrum = np.fft.rfft2(rng.standard_normal((512, 512)))
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)[None]) * 512
    noise = np.fft.irfft2(spectrum / np.maximum(frequency, 3) ** power)
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


@lru_cache(maxsize=32)
def blurred_noise(power: int, level: int) -> np.ndarray:
    """noise_tile seen from further away: 2**level tile pixels along, half the octaves across."""
    if level <= 0:
        return noise_tile(power)
    wave_y = np.fft.fftfreq(512)[:, None] * 2.0**level
    wave_x = np.fft.rfftfreq(512)[None] * 2.0 ** (level / 2)
    lowpass = np.exp(-2 * np.pi**2 * 0.3 * (wave_x**2 + wave_y**2))
    return np.fft.irfft2(np.fft.rfft2(noise_tile(power)) * lowpass).astype(np.float32)
