"""A tiny engine and the float graph that it was made of."""

import onnx
import pytest
from tiny_artifact import make_artifact, row_anchor_pair


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_artifact(tmp_path_factory.mktemp("artifact"))


@pytest.fixture(scope="module")
def float_onnx(tmp_path_factory):
    path = tmp_path_factory.mktemp("float") / "float.onnx"
    onnx.save(row_anchor_pair().float_model, path)
    return path
