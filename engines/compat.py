"""What differs between the inspectors of TensorRT 10.3 to 11.x and TensorRT-RTX, in one place.

What differs between their builders is in trt_lane.building.compat: a vehicle builds, too.
"""

from __future__ import annotations

import re


def tensor_type(tensor: dict) -> str:
    """INT8, FP8, INT4, FP16, BF16, FP32, INT32, INT64 or BOOL of a tensor in a layer report.

    10.x writes "Format/Datatype": "… INT8 format" or "Datatype"; 11.x and RTX "Datatype": "Int8".
    """
    text = str(tensor.get("Datatype") or tensor.get("Format/Datatype") or tensor.get("Format", ""))
    for pattern, name in _TYPES:
        if re.search(pattern, text, re.IGNORECASE):
            return name
    return text or "?"


_TYPES = (
    (r"\bu?int8\b", "INT8"),
    (r"\be4m3|\be5m2|\bfp8", "FP8"),
    (r"\bint4\b", "INT4"),
    (r"\bint32\b", "INT32"),
    (r"\bint64\b", "INT64"),
    (r"\bbf16\b|bfloat16", "BF16"),
    (r"\bfp16\b|\bhalf\b|float16", "FP16"),
    (r"\bfp32\b|\bfloat\b|float32|\btf32\b", "FP32"),
    (r"\bbool", "BOOL"),
)
