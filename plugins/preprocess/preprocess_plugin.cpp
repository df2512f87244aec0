// Pre-processing as TensorRT sees it: frames in as 32-bit words, the network's input out.
//
// TensorRT gives plugins no uint8 tensors, and what it does to int8 ones depends on quantisation;
// int32 words are handed on as they are. A frame's bytes need no change: (H, pitch) bytes are
// (H, pitch / 4) words.
#include <utility>

#include "common/shell.h"
#include "preprocess/preprocess.h"

using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

namespace trt_lane {
namespace {

constexpr int kWord = 4;

class PreprocessPlugin final : public PluginShell {
public:
    PreprocessPlugin(Fields given, MakePlugin make)
        : PluginShell(std::move(given), make), params_(Preprocess::make(fields())) {
        if (params_.pitch % kWord) {
            fields().refuse("pitch is " + std::to_string(params_.pitch) +
                            "; expected a multiple of 4, as the plugin reads words");
        }
        frame_ = {Preprocess::byte_rows(params_), params_.pitch / kWord};
    }

    std::int32_t getNbOutputs() const noexcept override { return 1; }

    std::int32_t getOutputDataTypes(DataType* outputs, std::int32_t output_count, DataType const*,
                                    std::int32_t) const noexcept override {
        if (output_count != 1) return kFailed;
        outputs[0] = output_type();
        return 0;
    }

    std::int32_t getOutputShapes(nvinfer1::DimsExprs const* inputs, std::int32_t input_count,
                                 nvinfer1::DimsExprs const*, std::int32_t,
                                 nvinfer1::DimsExprs* outputs, std::int32_t output_count,
                                 nvinfer1::IExprBuilder& builder) noexcept override {
        if (input_count != 1 || output_count != 1) {
            log_error("preprocess has one input and one output");
            return kFailed;
        }
        outputs[0].nbDims = 4;
        outputs[0].d[0] = inputs[0].d[0];
        outputs[0].d[1] = builder.constant(3);
        outputs[0].d[2] = builder.constant(params_.input_h);
        outputs[0].d[3] = builder.constant(params_.input_w);
        return 0;
    }

    bool supportsFormatCombination(std::int32_t position, DynamicPluginTensorDesc const* tensors,
                                   std::int32_t, std::int32_t) noexcept override {
        PluginTensorDesc const& tensor = tensors[position].desc;
        DataType const wanted = position == 0 ? DataType::kINT32 : output_type();
        return position <= 1 && tensor.format == TensorFormat::kLINEAR && tensor.type == wanted;
    }

    std::int32_t configurePlugin(DynamicPluginTensorDesc const* inputs, std::int32_t input_count,
                                 DynamicPluginTensorDesc const*,
                                 std::int32_t output_count) noexcept override {
        bool const sound =
            input_count == 1 && output_count == 1 && fits("frames", inputs[0].desc.dims, frame_);
        return sound ? 0 : kFailed;
    }

    std::size_t getWorkspaceSize(DynamicPluginTensorDesc const*, std::int32_t,
                                 DynamicPluginTensorDesc const*,
                                 std::int32_t) const noexcept override {
        return Preprocess::workspace_bytes(params_);
    }

    std::int32_t onShapeChange(PluginTensorDesc const* inputs, std::int32_t,
                               PluginTensorDesc const*, std::int32_t) noexcept override {
        return fits("frames", inputs[0].dims, frame_) ? 0 : kFailed;
    }

    std::int32_t enqueue(PluginTensorDesc const* input_descs, PluginTensorDesc const*,
                         void const* const* inputs, void* const* outputs, void* workspace,
                         cudaStream_t stream) noexcept override {
        auto const batch = static_cast<int>(input_descs[0].dims.d[0]);
        auto const* bytes = static_cast<std::uint8_t const*>(inputs[0]);
        std::size_t const size = static_cast<std::size_t>(frame_[0]) * params_.pitch;
        auto const frame = [&](int i) {
            return std::make_pair(bytes + i * size, static_cast<std::uint8_t const*>(nullptr));
        };
        auto const start = [&](Frames const& frames, int count, void* out) -> int {
            return Preprocess::launch(params_, frames, count, out, workspace, stream);
        };
        int const status = Preprocess::in_batches(params_, batch, outputs[0], frame, start);
        if (status) log_error("preprocess: CUDA error " + std::to_string(status));
        return status;
    }

private:
    DataType output_type() const {
        switch (params_.output) {
            case Output::kHalf: return DataType::kHALF;
            case Output::kInt8: return DataType::kINT8;
            default: return DataType::kFLOAT;
        }
    }

    PreprocessParams params_;
    Shape frame_;
};

}  // namespace

nvinfer1::IPluginCreatorInterface* preprocess_creator();
nvinfer1::IPluginCreatorInterface* preprocess_creator() {
    static MakePlugin const make = [](Fields fields) -> PluginShell* {
        return new PreprocessPlugin(std::move(fields), make);
    };
    static ShellCreator creator(*find_plugin("preprocess"), make);
    return &creator;
}

}  // namespace trt_lane
