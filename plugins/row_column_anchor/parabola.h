// The least-squares parabola of numpy.polyfit, from sums that one thread or a whole warp takes.
#pragma once

#include <cmath>

#include "common/lane_hd.h"

namespace trt_lane {

// Sums over points by one thread.
struct SerialSum {
    LANE_HD int first() const { return 0; }
    LANE_HD int step() const { return 1; }
    LANE_HD double sum(double value) const { return value; }
    LANE_HD double largest(double value) const { return value; }
};

// A parabola by polynomials that are orthogonal over the points: exact to the last digits where
// powers of pixels would lose most of them.
struct Parabola {
    double least, most;               // of the points' places along the axis
    double middle, scale;             // t = (place - middle) * scale lies in -1..1
    double mean, alpha, beta;         // p1 = t - mean, p2 = (t - alpha) p1 - beta
    double constant, linear, square;  // factors of 1, p1, p2
    double between;                   // factor of (place - least) (place - most)
    int count;

    LANE_HD double t(double place) const { return (place - middle) * scale; }
    LANE_HD double p1(double place) const { return t(place) - mean; }
    LANE_HD double p2(double place) const { return (t(place) - alpha) * p1(place) - beta; }
    LANE_HD double at(double place) const {
        return constant + linear * p1(place) + square * p2(place) +
               between * ((place - least) * (place - most));
    }
};

// The parabola value(place) of `size` points, of which points.at(i, &place, &value) says whether
// there is one. Of the equally good ones through two places, polyfit's: the least norm of the
// factors of place^2, place and 1, each times the norm of its column.
template <typename Points, typename Sum>
LANE_HD Parabola fitted(Points const& points, int size, Sum const& over) {
    Parabola fit{};
    double place, value;
    double count = 0.0, low = -INFINITY, high = -INFINITY;
    for (int i = over.first(); i < size; i += over.step()) {
        if (!points.at(i, &place, &value)) continue;
        count += 1.0;
        low = -place > low ? -place : low;
        high = place > high ? place : high;
    }
    count = over.sum(count);
    fit.count = static_cast<int>(count);
    if (fit.count == 0) return fit;
    fit.least = -over.largest(low);
    fit.most = over.largest(high);
    fit.middle = (fit.least + fit.most) / 2.0;
    fit.scale = fit.most > fit.least ? 2.0 / (fit.most - fit.least) : 1.0;

    double sum_t = 0.0, sum_value = 0.0;
    for (int i = over.first(); i < size; i += over.step()) {
        if (!points.at(i, &place, &value)) continue;
        sum_t += fit.t(place);
        sum_value += value;
    }
    fit.mean = over.sum(sum_t) / count;
    fit.constant = over.sum(sum_value) / count;

    double norm = 0.0, skew = 0.0, share = 0.0;
    for (int i = over.first(); i < size; i += over.step()) {
        if (!points.at(i, &place, &value)) continue;
        double const p1 = fit.p1(place);
        norm += p1 * p1;
        skew += fit.t(place) * p1 * p1;
        share += p1 * value;
    }
    norm = over.sum(norm);
    skew = over.sum(skew);
    share = over.sum(share);
    if (fit.most > fit.least) {
        fit.linear = share / norm;
        fit.alpha = skew / norm;
        fit.beta = norm / count;
    }

    norm = share = 0.0;
    double squares = 0.0, fourths = 0.0;
    for (int i = over.first(); i < size; i += over.step()) {
        if (!points.at(i, &place, &value)) continue;
        double const p2 = fit.p2(place);
        norm += p2 * p2;
        share += p2 * value;
        squares += place * place;
        fourths += place * place * (place * place);
    }
    norm = over.sum(norm);
    share = over.sum(share);
    squares = over.sum(squares);
    fourths = over.sum(fourths);
    constexpr double kNothing = 1e-24;  // t is of the order of 1, float64 keeps 1e-16 of it
    if (norm > kNothing * count) {
        fit.square = share / norm;
    } else if (fit.most > fit.least) {
        double const slope = fit.linear * fit.scale, at_zero = fit.at(0.0);
        double const q1 = -(fit.least + fit.most), q0 = fit.least * fit.most;
        fit.between = -(squares * slope * q1 + count * at_zero * q0) /
                      (fourths + squares * q1 * q1 + count * q0 * q0);
    }
    return fit;
}

// Mean squared error of a parabola over its points.
template <typename Points, typename Sum>
LANE_HD double mean_error(Parabola const& fit, Points const& points, int size, Sum const& over) {
    double place, value, sum = 0.0;
    for (int i = over.first(); i < size; i += over.step()) {
        if (!points.at(i, &place, &value)) continue;
        double const error = fit.at(place) - value;
        sum += error * error;
    }
    return over.sum(sum) / fit.count;
}

}  // namespace trt_lane
