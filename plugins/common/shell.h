// The shell that TensorRT sees of any decoder: IPluginV3 and its creator, TensorRT 10.3 to 11.x.
//
// <name>/<name>_plugin.cpp is TRT_LANE_PLUGIN(<name>) and nothing else, unless a decoder has
// something of its own to tell TensorRT. The library is loaded by IPluginRegistry::loadLibrary
// (trtexec --dynamicPlugins, trt.get_plugin_registry().load_library), which asks getCreators(); so
// nothing of libnvinfer is linked.
#pragma once

#include <NvInferRuntime.h>

#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "common/decoder.h"

namespace trt_lane {

constexpr char const* kNamespace = "trt_lane";

class PluginShell;

// Makes a plugin of checked fields; FieldError when they do not fit each other.
using MakePlugin = PluginShell* (*)(Fields fields);

// What every plugin of ours says in the same way: its name, its fields, its copies.
class PluginShell : public nvinfer1::IPluginV3,
                    public nvinfer1::IPluginV3OneCore,
                    public nvinfer1::IPluginV3OneBuild,
                    public nvinfer1::IPluginV3OneRuntime {
public:
    PluginShell(Fields fields, MakePlugin make);
    PluginShell(PluginShell const&) = delete;
    PluginShell& operator=(PluginShell const&) = delete;

    nvinfer1::IPluginCapability* getCapabilityInterface(
        nvinfer1::PluginCapabilityType type) noexcept override;
    nvinfer1::IPluginV3* clone() noexcept override;
    char const* getPluginName() const noexcept override;
    char const* getPluginVersion() const noexcept override;
    char const* getPluginNamespace() const noexcept override;
    nvinfer1::IPluginV3* attachToContext(
        nvinfer1::IPluginResourceContext* context) noexcept override;
    nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override;

protected:
    Fields const& fields() const { return fields_; }
    // Whether a tensor has these sizes behind the batch axis; tells TensorRT's log when not. -1, a
    // size that is not known yet, fits everything.
    bool fits(char const* tensor, nvinfer1::Dims const& found, Shape const& expected) const;

private:
    Fields fields_;
    MakePlugin make_;
    std::vector<nvinfer1::PluginField> serialized_;
    nvinfer1::PluginFieldCollection collection_{};
};

// A decoder as a plugin: heads in; points, scores and count out.
class LanePlugin final : public PluginShell {
public:
    LanePlugin(DecoderEntry const& entry, Fields fields, MakePlugin make);

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

private:
    std::unique_ptr<Decoder> decoder_;
    std::vector<Shape> heads_;
};

class ShellCreator final : public nvinfer1::IPluginCreatorV3One {
public:
    ShellCreator(PluginSpec const& spec, MakePlugin make);

    // nullptr when the fields are refused; TensorRT's log says why.
    nvinfer1::IPluginV3* createPlugin(char const* name,
                                      nvinfer1::PluginFieldCollection const* fields,
                                      nvinfer1::TensorRTPhase phase) noexcept override;
    nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override;
    char const* getPluginName() const noexcept override;
    char const* getPluginVersion() const noexcept override;
    char const* getPluginNamespace() const noexcept override;

private:
    PluginSpec const* spec_;
    MakePlugin make_;
    std::vector<nvinfer1::PluginField> names_;
    nvinfer1::PluginFieldCollection collection_{};
};

// Runs what may throw and tells TensorRT's log: its interfaces must not throw.
void log_error(std::string const& text) noexcept;

template <typename Result, typename Function>
Result guarded(Result failed, Function const& function) noexcept {
    try {
        return function();
    } catch (std::exception const& error) {
        log_error(error.what());
    }
    return failed;
}

constexpr std::int32_t kFailed = 1;  // status of a method that TensorRT asks in vain

}  // namespace trt_lane

// The creator of a decoder's plugin, made when it is first asked for.
#define TRT_LANE_PLUGIN(name)                                              \
    namespace trt_lane {                                                   \
    nvinfer1::IPluginCreatorInterface* name##_creator();                   \
    nvinfer1::IPluginCreatorInterface* name##_creator() {                  \
        static DecoderEntry const& entry = *find_decoder(#name);           \
        static MakePlugin const make = [](Fields fields) -> PluginShell* { \
            return new LanePlugin(entry, std::move(fields), make);         \
        };                                                                 \
        static ShellCreator creator(*entry.spec, make);                    \
        return &creator;                                                   \
    }                                                                      \
    }
