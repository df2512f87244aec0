// The shell that TensorRT sees of any decoder: IPluginV3 and its creator, TensorRT 10.3 to 11.x.
//
// <name>/<name>_plugin.cpp is TRT_LANE_PLUGIN(<name>) and nothing else, unless a decoder has
// something of its own to tell TensorRT. The library is loaded by IPluginRegistry::loadLibrary
// (trtexec --dynamicPlugins, trt.get_plugin_registry().load_library), which asks getCreators(); so
// nothing of libnvinfer is linked.
#pragma once

#include <NvInferRuntime.h>

#include <memory>
#include <string>
#include <vector>

#include "common/decoder.h"

namespace trt_lane {

constexpr char const* kNamespace = "trt_lane";

class LanePlugin final : public nvinfer1::IPluginV3,
                         public nvinfer1::IPluginV3OneCore,
                         public nvinfer1::IPluginV3OneBuild,
                         public nvinfer1::IPluginV3OneRuntime {
public:
    LanePlugin(DecoderEntry const& entry, Fields fields);

    // IPluginV3
    nvinfer1::IPluginCapability* getCapabilityInterface(
        nvinfer1::PluginCapabilityType type) noexcept override;
    nvinfer1::IPluginV3* clone() noexcept override;

    // Core
    char const* getPluginName() const noexcept override;
    char const* getPluginVersion() const noexcept override;
    char const* getPluginNamespace() const noexcept override;

    // Build
    std::int32_t getNbOutputs() const noexcept override;
    std::int32_t getOutputDataTypes(nvinfer1::DataType* outputs, std::int32_t output_count,
                                    nvinfer1::DataType const* inputs,
                                    std::int32_t input_count) const noexcept override;
    std::int32_t getOutputShapes(nvinfer1::DimsExprs const* inputs, std::int32_t input_count,
                                 nvinfer1::DimsExprs const* shape_inputs,
                                 std::int32_t shape_input_count, nvinfer1::DimsExprs* outputs,
                                 std::int32_t output_count,
                                 nvinfer1::IExprBuilder& builder) noexcept override;
    bool supportsFormatCombination(std::int32_t position,
                                   nvinfer1::DynamicPluginTensorDesc const* tensors,
                                   std::int32_t input_count,
                                   std::int32_t output_count) noexcept override;
    std::int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const* inputs,
                                 std::int32_t input_count,
                                 nvinfer1::DynamicPluginTensorDesc const* outputs,
                                 std::int32_t output_count) noexcept override;
    std::size_t getWorkspaceSize(nvinfer1::DynamicPluginTensorDesc const* inputs,
                                 std::int32_t input_count,
                                 nvinfer1::DynamicPluginTensorDesc const* outputs,
                                 std::int32_t output_count) const noexcept override;

    // Runtime
    std::int32_t onShapeChange(nvinfer1::PluginTensorDesc const* inputs, std::int32_t input_count,
                               nvinfer1::PluginTensorDesc const* outputs,
                               std::int32_t output_count) noexcept override;
    std::int32_t enqueue(nvinfer1::PluginTensorDesc const* input_descs,
                         nvinfer1::PluginTensorDesc const* output_descs, void const* const* inputs,
                         void* const* outputs, void* workspace,
                         cudaStream_t stream) noexcept override;
    nvinfer1::IPluginV3* attachToContext(
        nvinfer1::IPluginResourceContext* context) noexcept override;
    nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override;

private:
    bool heads_fit(std::int32_t head, nvinfer1::Dims const& dims) const;

    DecoderEntry const* entry_;
    Fields fields_;
    std::unique_ptr<Decoder> decoder_;
    std::vector<Shape> heads_;
    std::vector<nvinfer1::PluginField> serialized_;
    nvinfer1::PluginFieldCollection collection_{};
};

class LanePluginCreator final : public nvinfer1::IPluginCreatorV3One {
public:
    explicit LanePluginCreator(char const* decoder);

    // nullptr when the fields are refused; TensorRT's log says why.
    nvinfer1::IPluginV3* createPlugin(char const* name,
                                      nvinfer1::PluginFieldCollection const* fields,
                                      nvinfer1::TensorRTPhase phase) noexcept override;
    nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override;
    char const* getPluginName() const noexcept override;
    char const* getPluginVersion() const noexcept override;
    char const* getPluginNamespace() const noexcept override;

private:
    DecoderEntry const* entry_;
    std::vector<nvinfer1::PluginField> names_;
    nvinfer1::PluginFieldCollection collection_{};
};

}  // namespace trt_lane

// The creator of a decoder's plugin, made when it is first asked for.
#define TRT_LANE_PLUGIN(name)                             \
    namespace trt_lane {                                  \
    nvinfer1::IPluginCreatorInterface* name##_creator();  \
    nvinfer1::IPluginCreatorInterface* name##_creator() { \
        static LanePluginCreator creator(#name);          \
        return &creator;                                  \
    }                                                     \
    }
