#include "common/shell.h"

#include <atomic>
#include <cstring>
#include <exception>

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::ILogger;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

namespace trt_lane {
namespace {

constexpr std::int32_t kOutputs = 3;  // points, scores, count
constexpr DataType kOutputTypes[kOutputs] = {DataType::kFLOAT, DataType::kFLOAT, DataType::kINT32};

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

template <typename T>
std::vector<double> copied(PluginField const& field) {
    T const* data = static_cast<T const*>(field.data);
    return {data, data + field.length};
}

void set_field(Fields& fields, PluginField const& field) {
    if (!field.data && field.length > 0) {
        fields.refuse(std::string(field.name) + " has no data; expected " +
                      std::to_string(field.length) + " values");
    }
    switch (field.type) {
        case PluginFieldType::kFLOAT32: return fields.set(field.name, copied<float>(field));
        case PluginFieldType::kFLOAT64: return fields.set(field.name, copied<double>(field));
        case PluginFieldType::kINT8: return fields.set(field.name, copied<std::int8_t>(field));
        case PluginFieldType::kINT16: return fields.set(field.name, copied<std::int16_t>(field));
        case PluginFieldType::kINT32: return fields.set(field.name, copied<std::int32_t>(field));
        case PluginFieldType::kINT64: return fields.set(field.name, copied<std::int64_t>(field));
        case PluginFieldType::kCHAR: {
            char const* text = static_cast<char const*>(field.data);
            // The parser counts the closing NUL for some versions of TensorRT.
            return fields.set_text(field.name, std::string(text, strnlen(text, field.length)));
        }
        default:
            fields.refuse(std::string(field.name) + " has a type that no field takes; expected " +
                          "numbers or text");
    }
}

PluginFieldType declared_type(FieldKind kind) {
    switch (kind) {
        case FieldKind::kInt: return PluginFieldType::kINT32;
        case FieldKind::kFloat: return PluginFieldType::kFLOAT32;
        case FieldKind::kText: return PluginFieldType::kCHAR;
    }
    return PluginFieldType::kUNKNOWN;
}

std::string text_of(Dims const& dims) {
    std::string text = "(";
    for (int i = 0; i < dims.nbDims; ++i) text += (i ? ", " : "") + std::to_string(dims.d[i]);
    return text + ")";
}

}  // namespace

void log_error(std::string const& text) noexcept {
    nvinfer1::ILoggerFinder* finder = logger_finder;
    ILogger* logger = finder ? finder->findLogger() : nullptr;
    if (logger) logger->log(ILogger::Severity::kERROR, text.c_str());
}

// ---- the plugin -------------------------------------------------------------------------------

PluginShell::PluginShell(Fields fields, MakePlugin make) : fields_(std::move(fields)), make_(make) {
    PluginSpec const& spec = fields_.spec();
    for (int i = 0; i < spec.field_count; ++i) {
        FieldSpec const& field = spec.fields[i];
        Fields::Value const& value = fields_.value(i);
        if (field.kind == FieldKind::kText) {
            serialized_.emplace_back(field.name, value.text.c_str(), PluginFieldType::kCHAR,
                                     static_cast<std::int32_t>(value.text.size()));
        } else if (!value.numbers.empty()) {
            // float64: what was read from text keeps its digits.
            serialized_.emplace_back(field.name, value.numbers.data(), PluginFieldType::kFLOAT64,
                                     static_cast<std::int32_t>(value.numbers.size()));
        }
    }
    collection_ = {static_cast<std::int32_t>(serialized_.size()), serialized_.data()};
}

nvinfer1::IPluginCapability* PluginShell::getCapabilityInterface(
    nvinfer1::PluginCapabilityType type) noexcept {
    switch (type) {
        case nvinfer1::PluginCapabilityType::kCORE:
            return static_cast<nvinfer1::IPluginV3OneCore*>(this);
        case nvinfer1::PluginCapabilityType::kBUILD:
            return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
        case nvinfer1::PluginCapabilityType::kRUNTIME:
            return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
}

nvinfer1::IPluginV3* PluginShell::clone() noexcept {
    return guarded<nvinfer1::IPluginV3*>(nullptr, [&] { return make_(fields_); });
}

nvinfer1::IPluginV3* PluginShell::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
    return clone();
}

char const* PluginShell::getPluginName() const noexcept { return fields_.spec().name; }
char const* PluginShell::getPluginVersion() const noexcept { return fields_.spec().version; }
char const* PluginShell::getPluginNamespace() const noexcept { return kNamespace; }

PluginFieldCollection const* PluginShell::getFieldsToSerialize() noexcept { return &collection_; }

bool PluginShell::fits(char const* tensor, Dims const& found, Shape const& expected) const {
    bool same = found.nbDims == static_cast<std::int32_t>(expected.size()) + 1;
    for (std::size_t i = 0; same && i < expected.size(); ++i) {
        same = found.d[i + 1] == -1 || found.d[i + 1] == expected[i];
    }
    if (same) return true;
    std::string sizes = "(-1";
    for (std::int64_t size : expected) sizes += ", " + std::to_string(size);
    log_error(std::string(getPluginName()) + ": " + tensor + " has shape " + text_of(found) +
              "; expected " + sizes + ") by the plugin's fields");
    return false;
}

// ---- a decoder --------------------------------------------------------------------------------

LanePlugin::LanePlugin(DecoderEntry const& entry, Fields given, MakePlugin make)
    : PluginShell(std::move(given), make),
      decoder_(entry.make(fields())),
      heads_(decoder_->head_shapes()) {}

std::int32_t LanePlugin::getNbOutputs() const noexcept { return kOutputs; }

std::int32_t LanePlugin::getOutputDataTypes(DataType* outputs, std::int32_t output_count,
                                            DataType const*, std::int32_t) const noexcept {
    if (output_count != kOutputs) return kFailed;
    std::copy(kOutputTypes, kOutputTypes + kOutputs, outputs);
    return 0;
}

std::int32_t LanePlugin::getOutputShapes(nvinfer1::DimsExprs const* inputs,
                                         std::int32_t input_count, nvinfer1::DimsExprs const*,
                                         std::int32_t, nvinfer1::DimsExprs* outputs,
                                         std::int32_t output_count,
                                         nvinfer1::IExprBuilder& builder) noexcept {
    return guarded<std::int32_t>(kFailed, [&]() -> std::int32_t {
        auto const heads = static_cast<std::int32_t>(heads_.size());
        if (input_count != heads || output_count != kOutputs) {
            fields().refuse(std::to_string(input_count) + " inputs and " +
                            std::to_string(output_count) + " outputs; expected " +
                            std::to_string(heads) + " and 3: points, scores, count");
        }
        auto const* batch = inputs[0].d[0];
        auto const* slots = builder.constant(decoder_->slots());
        auto const* two = builder.constant(2);
        outputs[0].nbDims = 4;
        outputs[0].d[0] = batch;
        outputs[0].d[1] = slots;
        outputs[0].d[2] = builder.constant(decoder_->points());
        outputs[0].d[3] = two;
        outputs[1].nbDims = 2;
        outputs[1].d[0] = batch;
        outputs[1].d[1] = slots;
        outputs[2].nbDims = 2;
        outputs[2].d[0] = batch;
        outputs[2].d[1] = two;
        return 0;
    });
}

bool LanePlugin::supportsFormatCombination(std::int32_t position,
                                           DynamicPluginTensorDesc const* tensors,
                                           std::int32_t input_count,
                                           std::int32_t output_count) noexcept {
    if (position < 0 || position >= input_count + output_count) return false;
    PluginTensorDesc const& tensor = tensors[position].desc;
    if (tensor.format != TensorFormat::kLINEAR) return false;
    if (position >= input_count) {
        std::int32_t const output = position - input_count;
        return output < kOutputs && tensor.type == kOutputTypes[output];
    }
    bool const real = tensor.type == DataType::kFLOAT || tensor.type == DataType::kHALF;
    return real && tensor.type == tensors[0].desc.type;
}

std::int32_t LanePlugin::configurePlugin(DynamicPluginTensorDesc const* inputs,
                                         std::int32_t input_count, DynamicPluginTensorDesc const*,
                                         std::int32_t output_count) noexcept {
    return guarded<std::int32_t>(kFailed, [&]() -> std::int32_t {
        if (input_count != static_cast<std::int32_t>(heads_.size()) || output_count != kOutputs) {
            return kFailed;
        }
        for (std::int32_t i = 0; i < input_count; ++i) {
            if (!fits(fields().spec().heads[i], inputs[i].desc.dims, heads_[i])) return kFailed;
        }
        return 0;
    });
}

std::size_t LanePlugin::getWorkspaceSize(DynamicPluginTensorDesc const* inputs, std::int32_t,
                                         DynamicPluginTensorDesc const*,
                                         std::int32_t) const noexcept {
    auto const most = std::max(inputs[0].max.d[0], inputs[0].desc.dims.d[0]);
    return decoder_->workspace_bytes(static_cast<int>(most));
}

std::int32_t LanePlugin::onShapeChange(PluginTensorDesc const* inputs, std::int32_t input_count,
                                       PluginTensorDesc const*, std::int32_t) noexcept {
    return guarded<std::int32_t>(kFailed, [&]() -> std::int32_t {
        std::int64_t const batch = inputs[0].dims.d[0];
        for (std::int32_t i = 0; i < input_count; ++i) {
            char const* head = fields().spec().heads[i];
            if (!fits(head, inputs[i].dims, heads_[i])) return kFailed;
            if (inputs[i].dims.d[0] != batch) {
                fields().refuse(std::string(head) + " has " + std::to_string(inputs[i].dims.d[0]) +
                                " frames; expected " + std::to_string(batch) + ", as " +
                                fields().spec().heads[0]);
            }
        }
        return 0;
    });
}

std::int32_t LanePlugin::enqueue(PluginTensorDesc const* input_descs, PluginTensorDesc const*,
                                 void const* const* inputs, void* const* outputs, void* workspace,
                                 cudaStream_t stream) noexcept {
    return guarded<std::int32_t>(kFailed, [&] {
        Heads heads{};
        heads.type = input_descs[0].type == DataType::kHALF ? HeadType::kHalf : HeadType::kFloat;
        std::copy(inputs, inputs + heads_.size(), heads.data);
        Lanes const lanes{static_cast<float*>(outputs[0]), static_cast<float*>(outputs[1]),
                          static_cast<std::int32_t*>(outputs[2])};
        auto const batch = static_cast<int>(input_descs[0].dims.d[0]);
        int const status = decoder_->launch(heads, batch, lanes, workspace, stream);
        if (status) {
            log_error(std::string(getPluginName()) + ": CUDA error " + std::to_string(status));
        }
        return status;
    });
}

// ---- its creator ------------------------------------------------------------------------------

ShellCreator::ShellCreator(PluginSpec const& spec, MakePlugin make) : spec_(&spec), make_(make) {
    for (int i = 0; i < spec_->field_count; ++i) {
        FieldSpec const& field = spec_->fields[i];
        names_.emplace_back(field.name, nullptr, declared_type(field.kind), field.most);
    }
    collection_ = {static_cast<std::int32_t>(names_.size()), names_.data()};
}

nvinfer1::IPluginV3* ShellCreator::createPlugin(char const*, PluginFieldCollection const* fields,
                                                nvinfer1::TensorRTPhase) noexcept {
    return guarded<nvinfer1::IPluginV3*>(nullptr, [&] {
        Fields values(*spec_);
        for (std::int32_t i = 0; i < fields->nbFields; ++i) set_field(values, fields->fields[i]);
        values.finish();
        return make_(std::move(values));
    });
}

PluginFieldCollection const* ShellCreator::getFieldNames() noexcept { return &collection_; }
char const* ShellCreator::getPluginName() const noexcept { return spec_->name; }
char const* ShellCreator::getPluginVersion() const noexcept { return spec_->version; }
char const* ShellCreator::getPluginNamespace() const noexcept { return kNamespace; }

void set_logger_finder(nvinfer1::ILoggerFinder* finder);
void set_logger_finder(nvinfer1::ILoggerFinder* finder) { logger_finder = finder; }

}  // namespace trt_lane
