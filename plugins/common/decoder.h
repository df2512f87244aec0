// What the TensorRT shell, the C interface and the tests know of a decoder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "common/cuda_types.h"
#include "common/fields.h"
#include "common/lane_hd.h"
#include "common/soundness.h"

namespace trt_lane {

// Reasons why lanes or points are missing from the outputs: bits of count[n][1]. A decoder sets the
// first three; DecoderOf sets the last one for all.
enum Overflow : std::int32_t {
    kLanesDropped = 1,       // more lanes than slots: the later ones in the decoder's order
    kPointsDropped = 2,      // a lane of more points than fit: those farthest from its start
    kCandidatesDropped = 4,  // more candidates inside the decoder than it has room for
    kUnsound = 8  // a head holds NaN or infinity: the lanes are those that it does not touch
};

// Lanes of a batch. Unused slots and absent points hold NaN, unused scores 0.
struct Lanes {
    float* points;        // (N, slots, points, 2): x, y in frame pixels, bottom of the frame first
    float* scores;        // (N, slots)
    std::int32_t* count;  // (N, 2): lanes written, overflow bits
};

using Shape = std::vector<std::int64_t>;  // without the batch axis

constexpr int kNoKernels = -1;  // from launch() of a library that was built for a host only

// One decoder with its numbers, whichever it is.
class Decoder {
public:
    virtual ~Decoder() = default;
    virtual std::vector<Shape> head_shapes() const = 0;
    virtual int slots() const = 0;
    virtual int points() const = 0;
    virtual std::size_t workspace_bytes(int batch) const = 0;
    virtual void decode(Heads const& heads, int batch, Lanes const& lanes) const = 0;
    // A cudaError_t; all pointers on the device, the workspace aligned to 256 bytes.
    virtual int launch(Heads const& heads, int batch, Lanes const& lanes, void* workspace,
                       void* stream) const = 0;
};

// The decoder made of a struct D with
//   D::Params                                         plain numbers, passed to kernels by value
//   D::make(Fields const&) -> Params                  throws FieldError
//   D::head_shapes(Params const&) -> std::vector<Shape>
//   D::slots(Params const&), D::points(Params const&) -> int
//   D::workspace_bytes(Params const&, int batch) -> std::size_t
//   D::decode<T>(Params const&, Heads const&, int batch, Lanes const&)         one thread, host
//   D::launch(Params const&, Heads const&, int batch, Lanes const&, void*, stream) in its .cu
template <typename D>
class DecoderOf final : public Decoder {
public:
    explicit DecoderOf(Fields const& fields) : params_(D::make(fields)) {
        for (Shape const& shape : head_shapes()) {
            std::int64_t size = 1;
            for (std::int64_t extent : shape) size *= extent;
            sizes_.size[sizes_.heads++] = size;
        }
    }

    std::vector<Shape> head_shapes() const override { return D::head_shapes(params_); }
    int slots() const override { return D::slots(params_); }
    int points() const override { return D::points(params_); }
    std::size_t workspace_bytes(int batch) const override {
        return D::workspace_bytes(params_, batch);
    }
    void decode(Heads const& heads, int batch, Lanes const& lanes) const override {
        if (heads.type == HeadType::kHalf) {
            decode_as<Half>(heads, batch, lanes);
        } else {
            decode_as<float>(heads, batch, lanes);
        }
    }
    int launch([[maybe_unused]] Heads const& heads, [[maybe_unused]] int batch,
               [[maybe_unused]] Lanes const& lanes, [[maybe_unused]] void* workspace,
               [[maybe_unused]] void* stream) const override {
#ifdef TRT_LANE_KERNELS
        if (batch == 0) return cudaSuccess;  // TensorRT's empty tensors; a grid has no such size
        auto const on = static_cast<cudaStream_t>(stream);
        cudaError_t const status = D::launch(params_, heads, batch, lanes, workspace, on);
        return status ? status : launch_soundness(heads, sizes_, batch, lanes.count, on);
#else
        return kNoKernels;
#endif
    }

private:
    template <typename T>
    void decode_as(Heads const& heads, int batch, Lanes const& lanes) const {
        D::template decode<T>(params_, heads, batch, lanes);
        for (int n = 0; n < batch; ++n) {
            for (int head = 0; head < sizes_.heads; ++head) {
                std::int64_t const size = sizes_.size[head];
                if (heads.data[head] && !all_finite(heads.as<T>(head) + n * size, size)) {
                    lanes.count[2 * n + 1] |= kUnsound;
                }
            }
        }
    }

    typename D::Params params_;
    HeadSizes sizes_{};
};

// What is known of a decoder before it has numbers.
struct DecoderEntry {
    PluginSpec const* spec;
    std::unique_ptr<Decoder> (*make)(Fields const&);
};

// All decoders of this library, in alphabetical order; made from the folders of plugins/.
std::vector<DecoderEntry> const& decoders();
// The fields of any plugin, pre-processing too; nullptr when there is none of that name.
PluginSpec const* find_plugin(char const* name);
DecoderEntry const* find_decoder(char const* name);

// ---- for D::decode ------------------------------------------------------------------------

// Writes lanes one after the other into the slots of one frame of the batch, as the kernels do.
class LaneWriter {
public:
    LaneWriter(Lanes const& lanes, int frame, int slots, int points)
        : points_(lanes.points + static_cast<std::size_t>(frame) * slots * points * 2),
          scores_(lanes.scores + static_cast<std::size_t>(frame) * slots),
          count_(lanes.count + static_cast<std::size_t>(frame) * 2),
          slots_(slots),
          width_(points) {
        for (int i = 0; i < slots * points * 2; ++i) points_[i] = nan_float();
        for (int i = 0; i < slots; ++i) scores_[i] = 0.0f;
        count_[0] = count_[1] = 0;
    }

    // The points (P, 2) of the next lane, to be filled, or nullptr when all slots are taken.
    float* next(float score) {
        if (count_[0] == slots_) {
            count_[1] |= kLanesDropped;
            return nullptr;
        }
        scores_[count_[0]] = score;
        return points_ + static_cast<std::size_t>(count_[0]++) * width_ * 2;
    }

    void overflow(Overflow reason) { count_[1] |= reason; }

private:
    float* points_;
    float* scores_;
    std::int32_t* count_;
    int slots_, width_;
};

}  // namespace trt_lane
