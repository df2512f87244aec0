import math

import numpy as np
import pytest
import torch
from scipy import integrate

from calibrators.collect import add_values
from calibrators.observers import BINS, OBSERVERS, Statistics, aciq, entropy, fp16_exact, mse
from calibrators.observers import percentile as percentile_of

KINDS = ("laplace", "gauss", "relu", "uniform", "outlier", "sparse")


def values_of(kind, count=40_000, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.laplace(size=count) if kind == "laplace" else rng.standard_normal(count)
    if kind == "relu":
        x = np.maximum(x, 0)
    if kind == "sparse":
        x = np.where(rng.random(count) < 0.95, 0, np.abs(x))
    if kind == "uniform":
        x = rng.uniform(-3, 3, count)
    if kind == "outlier":
        x[7] = 60.0
    return x.astype(np.float32)


def statistics_of(values):
    x = torch.as_tensor(np.float32(values))
    statistics = Statistics(absmax=float(x.abs().max()))
    add_values(statistics, x)
    return statistics


def rounding_error(values, threshold, qmax, norm=2.4):
    step = threshold / qmax
    levels = np.clip(np.rint(np.float64(values) / step), -qmax - 1, qmax)
    return float((np.abs(levels * step - values) ** norm).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_are_those_of_all_values_in_any_portions(kind):
    x = values_of(kind)
    whole = statistics_of(x)
    parts = Statistics(absmax=whole.absmax)
    for part in np.array_split(x, 7):
        add_values(parts, torch.from_numpy(part).reshape(-1, 1))
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert whole.counts.sum() == x.size
    assert parts.total == whole.total == np.count_nonzero(x)
    assert parts.abs_sum == pytest.approx(np.abs(np.float64(x)).sum())
    assert parts.square_sum == pytest.approx((np.float64(x) ** 2).sum(), rel=1e-6)
    expected, _ = np.histogram(np.abs(x), BINS, (0, whole.absmax))
    assert np.abs(np.cumsum(expected - whole.counts)).max() <= 3  # values on an edge


@pytest.mark.slow
def test_a_bin_counts_beyond_what_float32_can():
    statistics = Statistics(absmax=1.0)
    add_values(statistics, torch.zeros((1 << 25) + 3))
    assert statistics.counts[0] == (1 << 25) + 3


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_no_range_is_wider_than_the_largest_magnitude(observer, kind, bits):
    statistics = statistics_of(values_of(kind))
    found = OBSERVERS[observer](statistics, (1 << (bits - 1)) - 1)
    assert 0 < found <= statistics.absmax * (1 + 1e-12)


@pytest.mark.parametrize("observer", OBSERVERS)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("values", [[0.25], [-3.0] * 50, [0.0] * 99 + [2.0], [1e-20, 1e-20]])
def test_constant_and_single_values_keep_their_range(observer, bits, values):
    statistics = statistics_of(values)
    found = OBSERVERS[observer](statistics, (1 << (bits - 1)) - 1)
    # Within one part in a hundred: mse looks at hundredths, and a bin's middle is not its edge.
    assert found == pytest.approx(statistics.absmax, rel=0.011)


def test_minmax_is_the_largest_magnitude():
    x = values_of("laplace")
    assert OBSERVERS["minmax"](statistics_of(x), 127) == np.abs(x).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [90.0013, 99.0013, 99.9013, 99.9913, 100])
def test_percentile_is_numpys_to_one_bin(kind, share):
    x = values_of(kind)
    statistics = statistics_of(x)
    found = percentile_of(statistics, 127, share)
    exact = np.quantile(np.abs(np.float64(x)), share / 100, method="inverted_cdf")
    assert abs(found - exact) <= statistics.absmax / BINS * 1.01


def test_percentile_grows_with_its_share_up_to_the_largest_magnitude():
    statistics = statistics_of(values_of("gauss"))
    found = [percentile_of(statistics, 127, s) for s in np.linspace(51, 100, 200)]
    assert (np.diff(found) >= 0).all()
    assert found[-1] == statistics.absmax


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_mse_is_as_good_as_the_best_of_a_hundred_ranges_on_the_values_themselves(kind, bits):
    x, qmax = values_of(kind, 8000), (1 << (bits - 1)) - 1
    statistics = statistics_of(x)
    # Magnitudes, as the observer sees them: the one more negative level is not counted on.
    x = np.abs(x)
    candidates = statistics.absmax * np.arange(1, 101) / 100
    best = min(rounding_error(x, c, qmax) for c in candidates)
    found = rounding_error(x, mse(statistics, qmax), qmax)
    assert found <= best * 1.02
    assert found <= rounding_error(x, statistics.absmax, qmax) * (1 + 1e-9)


def entropy_by_hand(x, qmax):
    """Migacz's search written as loops over the bins (and pytorch-quantization's first bin)."""
    levels, fine = qmax + 1, 2048
    absmax = np.abs(x).max()
    fine_counts = statistics_of(x).counts
    counts = [fine_counts[i * 4 : i * 4 + 4].sum() for i in range(fine)]
    counts[0] = counts[1]
    best = None
    for bins in [*range(levels, fine, 8), fine]:
        p = list(counts[:bins])
        p[-1] += sum(counts[bins:])
        sums, filled = [0.0] * levels, [0] * levels
        for i in range(bins):
            group = min(i * levels // bins, levels - 1)
            sums[group] += counts[i]
            filled[group] += counts[i] > 0
        q = [
            sums[i * levels // bins] / filled[i * levels // bins] if counts[i] > 0 else 0.0
            for i in range(bins)
        ]
        total_p, total_q = sum(p), max(sum(q), 1e-300)
        divergence = 0.0
        for a, b in zip(p, q, strict=True):
            if a > 0:
                divergence += a / total_p * math.log(a / total_p / max(b / total_q, 1e-12))
        if best is None or divergence < best[0]:
            best = (divergence, bins)
    return min(absmax * (best[1] + 0.5) / fine, absmax)


@pytest.mark.parametrize("kind", ["laplace", "relu"])
@pytest.mark.parametrize("qmax", [127, 7])
def test_entropy_is_the_search_written_as_loops(kind, qmax):
    x = values_of(kind)
    assert entropy(statistics_of(x), qmax) == pytest.approx(entropy_by_hand(x, qmax), rel=1e-6)


def test_entropy_cuts_off_a_long_thin_tail_and_keeps_a_flat_one():
    tail = statistics_of(values_of("outlier"))
    assert entropy(tail, 127) < 0.5 * tail.absmax
    flat = statistics_of(values_of("uniform"))
    assert entropy(flat, 127) > 0.95 * flat.absmax


def test_zeros_change_neither_entropys_nor_aciqs_range():
    x = np.abs(values_of("gauss"))
    with_zeros = statistics_of(np.concatenate([x, np.zeros(200_000, np.float32)]))
    alone = statistics_of(x)
    for observer in (entropy, aciq):
        assert observer(with_zeros, 127) == pytest.approx(observer(alone, 127), rel=1e-9)


@pytest.mark.parametrize("kind", ["laplace", "gauss"])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_aciq_is_the_minimum_of_the_integrated_error(kind, bits):
    qmax = (1 << (bits - 1)) - 1
    x = values_of(kind, 400_000)
    found = aciq(statistics_of(x), qmax)

    def density(v):
        if kind == "laplace":
            return math.exp(-v) / 2
        return math.exp(-v * v / 2) / math.sqrt(2 * math.pi)

    def error(clip):
        tail, _ = integrate.quad(lambda v: (v - clip) ** 2 * density(v), clip, 60, limit=200)
        return 2 * tail + (clip / qmax) ** 2 / 12

    clips = np.linspace(0.5, 15, 1500)
    best = clips[np.argmin([error(c) for c in clips])]
    # 2 %: the scale of the distribution is estimated from the values.
    assert found == pytest.approx(min(best, np.abs(x).max()), rel=0.02)


@pytest.mark.parametrize("observer", ["entropy", "mse", "aciq"])
def test_at_four_bits_clipping_rounds_better_than_the_full_range(observer):
    x = values_of("laplace")
    found = OBSERVERS[observer](statistics_of(x), 7)
    assert rounding_error(x, found, 7, 2) < 0.7 * rounding_error(x, np.abs(x).max(), 7, 2)


def test_steps_are_exact_in_fp16_where_fp16_is_normal():
    steps = np.float32([2.0**-14, 0.1, 3.14159, 65504.0])
    found = fp16_exact(steps)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, found.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(found, steps, rtol=2.0**-11)
    assert fp16_exact(0.1).shape == ()


def test_steps_that_fp16_cannot_hold_stay_positive_and_finite():
    found = fp16_exact(np.float32([1e-30, 1e-6, 1e5]))
    assert (found > 0).all()
    np.testing.assert_array_equal(found[2], np.float32(1e5))
    assert found[1] == pytest.approx(1e-6, rel=0.1)
