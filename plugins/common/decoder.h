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

namespace trt_lane {

constexpr int kMaxHeads = 8;

enum class HeadType : std::int32_t { kFloat = 0, kHalf = 1 };

// Heads of a batch, each contiguous (N, ...), all of one type; absent optional ones are nullptr.
struct Heads {
    void const* data[kMaxHeads];
    HeadType type;

    template <typename T>
    T const* as(int head) const {
        return static_cast<T const*>(data[head]);
    }
};

// Reasons why lanes or points are missing from the outputs: bits of count[n][1].
enum Overflow : std::int32_t {
    kLanesDropped = 1,      // more lanes than slots: the later ones in the decoder's order
    kPointsDropped = 2,     // a lane of more points than fit: those farthest from its start
    kCandidatesDropped = 4  // more candidates inside the decoder than it has room for
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
    explicit DecoderOf(Fields const& fields) : params_(D::make(fields)) {}

    std::vector<Shape> head_shapes() const override { return D::head_shapes(params_); }
    int slots() const override { return D::slots(params_); }
    int points() const override { return D::points(params_); }
    std::size_t workspace_bytes(int batch) const override {
        return D::workspace_bytes(params_, batch);
    }
    void decode(Heads const& heads, int batch, Lanes const& lanes) const override {
        if (heads.type == HeadType::kHalf) {
            D::template decode<Half>(params_, heads, batch, lanes);
        } else {
            D::template decode<float>(params_, heads, batch, lanes);
        }
    }
    int launch([[maybe_unused]] Heads const& heads, [[maybe_unused]] int batch,
               [[maybe_unused]] Lanes const& lanes, [[maybe_unused]] void* workspace,
               [[maybe_unused]] void* stream) const override {
#ifdef TRT_LANE_KERNELS
        return D::launch(params_, heads, batch, lanes, workspace,
                         static_cast<cudaStream_t>(stream));
#else
        return kNoKernels;
#endif
    }

private:
    typename D::Params params_;
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
