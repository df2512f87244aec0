// Segmentation on a CPU: probabilities of the pixels that are asked for, each found once.
#pragma once

#include "segmentation/segmentation_blocks.h"

namespace trt_lane {

// Columns from `begin` up to `end`.
struct SegmentationSpan {
    int begin, end;
};

// Probabilities of one frame's lanes at the network input's size.
template <typename T>
class SegmentationRows {
public:
    explicit SegmentationRows(SegmentationParams const& p)
        : p_(p),
          blocks_((p.input_w + kSegmentationBlock - 1) / kSegmentationBlock),
          across_(p, blocks_ * kSegmentationBlock),
          soundness_(p.map_h),
          sound_(2 * static_cast<std::size_t>(p.map_w)),
          mixed_(p.map_w + kSegmentationBlock),
          row_of_(p.blur),
          done_(static_cast<std::size_t>(p.blur) * blocks_),
          probability_(static_cast<std::size_t>(p.kept) * p.blur * blocks_ * kSegmentationBlock) {}

    // The frame's head and those of its lanes that are read.
    void start(T const* maps, int const* kept, int count) {
        maps_ = maps, kept_ = kept, count_ = count;
        std::fill(soundness_.begin(), soundness_.end(), Soundness::kUnknown);
        std::fill(row_of_.begin(), row_of_.end(), -1);
    }

    // First and last column, or row, of the head that a pixel is made of.
    int first_column(int x) const { return across_.first[x]; }
    int last_column(int x) const {
        return across_.second_weight[x] > 0.0f ? across_.second[x] : across_.first[x];
    }
    int first_row(int y) const { return segmentation_taps(p_.map_h, p_.input_h, y).first; }
    int last_row(int y) const { return last_of(segmentation_taps(p_.map_h, p_.input_h, y)); }

    // Makes row(k, y) valid in these columns, until `blur` rows further.
    void find(int y, SegmentationSpan columns) {
        char* done = done_.data() + static_cast<std::size_t>(y % p_.blur) * blocks_;
        int& row = row_of_[y % p_.blur];
        if (row != y) std::fill_n(done, blocks_, char{0});
        row = y;
        int const end = (columns.end + kSegmentationBlock - 1) / kSegmentationBlock;
        for (int block = columns.begin / kSegmentationBlock; block < end; ++block) {
            if (!done[block]) find_block(y, block * kSegmentationBlock);
            done[block] = 1;
        }
    }

    // Of the kept lane k.
    float const* row(int k, int y) const { return probability_.data() + place(k, y); }

private:
    enum class Soundness : char { kUnknown, kSound, kUnsound };

    static int last_of(SegmentationTaps const& taps) {
        return taps.second_weight > 0.0f ? taps.second : taps.first;
    }

    std::size_t plane() const { return static_cast<std::size_t>(p_.map_h) * p_.map_w; }

    // The rows under the filter take turns in as many places.
    std::size_t place(int k, int y) const {
        return (static_cast<std::size_t>(k) * p_.blur + y % p_.blur) * blocks_ * kSegmentationBlock;
    }

    // Softmax of a block of one row at the network input's size.
    void find_block(int y, int begin) {
        SegmentationBlock logits[SegmentationParams::kMaxLanes + 1];
        find_logits(y, begin, logits);
        segmentation_softmax(avx2_, logits, p_.lanes + 1);
        for (int k = 0; k < count_; ++k) {
            std::copy_n(logits[kept_[k] + 1].column, kSegmentationBlock,
                        probability_.data() + place(k, y) + begin);
        }
    }

    void find_logits(int y, int begin, SegmentationBlock* logits) {
        SegmentationTaps const rows = segmentation_taps(p_.map_h, p_.input_h, y);
        int const first = across_.first[begin];
        int const count = across_.second[begin + kSegmentationBlock - 1] + 1 - first;
        T const* above = maps_ + static_cast<std::size_t>(rows.first) * p_.map_w + first;
        T const* below = maps_ + static_cast<std::size_t>(last_of(rows)) * p_.map_w + first;
        float *sound_above = sound_.data(), *sound_below = sound_above + count;
        find_sound(rows.first, above, count, sound_above);
        find_sound(last_of(rows), below, count, sound_below);
        bool const resized = p_.map_h != p_.input_h || p_.map_w != p_.input_w;
        float* mixed = mixed_.data() + first;
        for (int c = 0; c <= p_.lanes; ++c, above += plane(), below += plane()) {
            float const unsound = segmentation_unsound(c);
            // Read in any case: the compiler makes no vector code of loads that may not happen.
            for (int x = 0; !resized && x < count; ++x) {
                float const a = to_float(above[x]);
                mixed[x] = sound_above[x] == 0.0f ? a : unsound;
            }
            for (int x = 0; resized && x < count; ++x) {
                float const a = to_float(above[x]), b = to_float(below[x]);
                mixed[x] =
                    segmentation_mixed(rows.first_weight, sound_above[x] == 0.0f ? a : unsound,
                                       rows.second_weight, sound_below[x] == 0.0f ? b : unsound);
            }
            if (resized) {
                segmentation_across(avx2_, across_, begin, mixed_.data(), logits[c].column);
            } else {
                std::copy_n(mixed, kSegmentationBlock, logits[c].column);
            }
        }
    }

    // 0, or NaN where a class is no finite number, of part of a row of the head.
    void find_sound(int y, T const* row, int count, float* sound) {
        std::fill_n(sound, count, 0.0f);
        if (is_sound(y)) return;
        for (int c = 0; c <= p_.lanes; ++c) {
            for (int x = 0; x < count; ++x) sound[x] += to_float(row[c * plane() + x]) * 0.0f;
        }
    }

    bool is_sound(int y) {
        Soundness& known = soundness_[y];
        if (known == Soundness::kUnknown) {
            T const* row = maps_ + static_cast<std::size_t>(y) * p_.map_w;
            known = Soundness::kSound;
            for (int c = 0; c <= p_.lanes; ++c) {
                if (!all_finite(row + c * plane(), p_.map_w)) known = Soundness::kUnsound;
            }
        }
        return known == Soundness::kSound;
    }

    SegmentationParams const& p_;
    int blocks_;
    SegmentationAcross across_;
    T const* maps_ = nullptr;
    int const* kept_ = nullptr;
    int count_ = 0;
    bool avx2_ = has_avx2();
    std::vector<Soundness> soundness_;  // (h,) of the head's rows
    std::vector<float> sound_, mixed_;
    std::vector<int> row_of_;         // (blur,) whose probabilities lie there
    std::vector<char> done_;          // (blur, blocks)
    std::vector<float> probability_;  // (kept, blur, blocks * block)
};

}  // namespace trt_lane
