import pytest

from engines import compat


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}, "INT8"),
        ({"Format/Datatype": "Row major linear FP16 format"}, "FP16"),
        ({"Format/Datatype": "Half"}, "FP16"),
        ({"Datatype": "Int8", "Format": "Row major linear"}, "INT8"),
        ({"Datatype": "Float"}, "FP32"),
        ({"Datatype": "BFloat16"}, "BF16"),
        ({"Datatype": "FP8"}, "FP8"),
        ({"Datatype": "Int64"}, "INT64"),
        ({}, "?"),
    ],
)
def test_types_are_read_in_the_words_of_every_version(tensor, expected):
    assert compat.tensor_type(tensor) == expected
