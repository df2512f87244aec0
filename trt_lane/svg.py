"""A picture as SVG text around a JPEG, so that a README can show it and git can keep it as text."""

from __future__ import annotations

import base64

import cv2
import numpy as np


def svg_of(picture: np.ndarray, width_px: int = 1200, quality: int = 72) -> bytes:
    """An SVG file that shows a BGR uint8 picture, at most `width_px` wide."""
    if picture.shape[1] > width_px:
        height = round(picture.shape[0] * width_px / picture.shape[1])
        picture = cv2.resize(picture, (width_px, height), interpolation=cv2.INTER_AREA)
    height, width = picture.shape[:2]
    jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    data = base64.b64encode(jpeg).decode()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">'
        f'<image width="{width}" height="{height}" href="data:image/jpeg;base64,{data}"/></svg>\n'
    ).encode()
