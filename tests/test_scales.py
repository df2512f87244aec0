import json

import numpy as np
import pytest

from trt_lane.errors import TrtLaneError
from trt_lane.scales import Equalisation, Scale, ScaleTable, Site


def table(**changes):
    values = {
        "sites": (Site("image", ("conv1",), "image"), Site("relu", ("conv2", "add"), "relu")),
        "activations": {"image": Scale(0.02), "relu": Scale(np.float32(0.5))},
        "weights": {"conv1.weight": Scale(np.array([0.25, 0.5]), 0)},
        "rounded": {"conv1.weight": np.int8([[1, -128], [127, 0]])},
        "maxima": {"image": 2.5, "relu": 63.0},
        "digests": {"recipe": "ab", "weights": "cd"},
        "info": {"recipe": "int8_minmax", "seconds": 1.0},
        "equalised": Equalisation({"conv1": np.float32([1, 4])}, {"conv2": np.float32([1, 4])}),
    }
    return ScaleTable(**(values | changes))


def rewrite(path, **changes):
    with np.load(path) as file:
        arrays = {k: file[k] for k in file.files}
    np.savez(path, **(arrays | changes))


def meta_of(path):
    with np.load(path) as file:
        return json.loads(str(file["meta"]))


def test_a_table_comes_back_from_its_file(tmp_path):
    path = tmp_path / "deep" / "scales.npz"
    written = table()
    written.save(path)
    read = ScaleTable.load(path)
    assert read.sites == written.sites
    assert (read.maxima, read.digests, read.info) == (
        written.maxima,
        written.digests,
        written.info,
    )
    assert read.digest() == written.digest()
    assert read.activations["relu"].value == np.float32(0.5)
    assert read.weights["conv1.weight"].axis == 0
    np.testing.assert_array_equal(read.rounded["conv1.weight"], written.rounded["conv1.weight"])
    assert read.equalised.outputs["conv1"].tolist() == [1, 4]
    assert list(read.equalised.inputs) == ["conv2"]


@pytest.mark.parametrize(
    "change",
    [
        {"activations": {"image": Scale(0.02), "relu": Scale(0.25)}},
        {"activations": {"image": Scale(0.02), "relu": Scale(0.5, None, 4)}},
        {"weights": {"conv1.weight": Scale(np.array([0.25, 0.25]), 0)}},
        {"weights": {"conv1.weight": Scale(np.array([0.25, 0.5]), 1)}},
        {"rounded": {"conv1.weight": np.int8([[1, -128], [127, 1]])}},
        {"maxima": {"image": 2.5, "relu": 40000.0}},
        {"digests": {"recipe": "xx", "weights": "cd"}},
        {"equalised": Equalisation()},
        {"equalised": Equalisation({}, {"conv2": np.float32([1, 4])})},
        {"equalised": Equalisation({"conv2": np.float32([1, 4])}, {"conv2": np.float32([1, 4])})},
        {"sites": (Site("image", ("conv1",), "image"), Site("relu", ("conv2",), "relu"))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_digest_tells_whatever_export_uses(change):
    assert table(**change).digest() != table().digest()


def test_the_digest_does_not_tell_times():
    assert table(info={"seconds": 2.0}).digest() == table().digest()


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, 1e-60])
def test_a_step_must_be_positive_and_finite(value):
    with pytest.raises(ValueError, match="positive and finite"):
        Scale(value)


@pytest.mark.parametrize(
    ("value", "axis", "bits"), [([1.0], None, 8), (1.0, 0, 8), (1.0, None, 9), (1.0, None, 1)]
)
def test_a_scale_of_the_wrong_shape_or_bits_is_refused(value, axis, bits):
    with pytest.raises(ValueError):
        Scale(np.array(value), axis, bits)


@pytest.mark.parametrize(("bits", "qmin", "qmax"), [(8, -128, 127), (4, -8, 7), (2, -2, 1)])
def test_levels_are_those_of_signed_integers(bits, qmin, qmax):
    scale = Scale(1.0, None, bits)
    assert (scale.qmin, scale.qmax) == (qmin, qmax)


@pytest.mark.parametrize(
    "change",
    [
        {"rounded": {}},
        {"activations": {"image": Scale(0.02)}},
        {"sites": ()},
        {"rounded": {"conv1.weight": np.int32([[1, 2], [3, 4]])}},
        {"rounded": {"conv1.weight": np.int8([[1, 2], [3, 4], [5, 6]])}},
        {"weights": {"conv1.weight": Scale(np.array([0.25, 0.5]), 2)}},
    ],
)
def test_a_table_whose_parts_do_not_match_cannot_exist(change):
    with pytest.raises(ValueError):
        table(**change)


@pytest.mark.parametrize(
    "factors",
    [np.ones((2, 2), np.float32), np.ones(2), *map(np.float32, ([3], [0], [-2], [np.inf]))],
)
def test_factors_that_would_change_the_float_network_are_refused(factors):
    with pytest.raises(ValueError, match="factors of conv1"):
        Equalisation({"conv1": factors})


def test_changed_factors_are_noticed(tmp_path):
    path = tmp_path / "scales.npz"
    table().save(path)
    rewrite(path, **{"outputs/conv1": np.float32([1, 8])})
    with pytest.raises(TrtLaneError, match="changed after it was written"):
        ScaleTable.load(path)


def test_a_changed_number_is_noticed(tmp_path):
    path = tmp_path / "scales.npz"
    table().save(path)
    rewrite(path, **{"activations/relu": np.float32(0.25)})
    with pytest.raises(TrtLaneError, match="changed after it was written"):
        ScaleTable.load(path)


def test_changed_maxima_are_noticed(tmp_path):
    path = tmp_path / "scales.npz"
    table().save(path)
    meta = meta_of(path)
    meta["maxima"]["relu"] = 1.0
    rewrite(path, meta=np.array(json.dumps(meta)))
    with pytest.raises(TrtLaneError, match="changed after it was written"):
        ScaleTable.load(path)


@pytest.mark.parametrize(
    "meta",
    [
        "[]",
        "{",
        "{}",
        '{"schema": 2}',
        '{"schema": 2, "activations": [], "weights": {}}',
        '{"schema": 2, "activations": {"image": {"shape": 3}}, "weights": {}}',
    ],
)
def test_meta_that_is_something_else_is_an_error_to_mend(tmp_path, meta):
    path = tmp_path / "scales.npz"
    table().save(path)
    rewrite(path, meta=np.array(meta))
    with pytest.raises(TrtLaneError, match="calibrate again"):
        ScaleTable.load(path)


@pytest.mark.parametrize("key", ["digest", "maxima", "sites", "info"])
def test_a_file_without_a_part_is_an_error_to_mend(tmp_path, key):
    path = tmp_path / "scales.npz"
    table().save(path)
    meta = meta_of(path)
    del meta[key]
    rewrite(path, meta=np.array(json.dumps(meta)))
    with pytest.raises(TrtLaneError, match="calibrate again"):
        ScaleTable.load(path)


@pytest.mark.parametrize(("schema", "age"), [(1, "an older"), (99, "another"), ("x", "another")])
def test_another_schema_is_refused_with_the_mending_command(tmp_path, schema, age):
    path = tmp_path / "scales.npz"
    table().save(path)
    meta = meta_of(path) | {"schema": schema}
    if schema == 1:
        del meta["biases"]  # it had none
    rewrite(path, meta=np.array(json.dumps(meta)))
    with pytest.raises(TrtLaneError) as refusal:
        ScaleTable.load(path)
    line = str(refusal.value)
    assert f"{age} version of trt_lane (schema {schema}, expected 2)" in line
    assert f"python -m calibrators MODEL --recipe int8_minmax --out {path}" in line
    assert "\n" not in line


def test_no_damage_of_the_file_gets_through_or_out(tmp_path):
    path = tmp_path / "scales.npz"
    table().save(path)
    whole, digest = path.read_bytes(), table().digest()
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        if rng.random() < 0.3:
            data = data[: rng.integers(len(data))]
        else:
            for position in rng.integers(len(data), size=rng.integers(1, 4)):
                data[position] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        try:
            assert ScaleTable.load(path).digest() == digest  # a byte that says nothing was hit
        except TrtLaneError as error:
            assert str(path) in str(error)


def test_what_is_no_table_is_an_error_to_mend(tmp_path):
    with pytest.raises(TrtLaneError, match="no scale table at"):
        ScaleTable.load(tmp_path / "nothing.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("array.npy", "text.npz", "empty.npz", "."):
        with pytest.raises(TrtLaneError, match="not a whole scale table"):
            ScaleTable.load(tmp_path / name)
