// Plays TensorRT to a plugin: builds it from fields, asks what a builder asks, saves and loads it,
// and runs one enqueue. Its kernels are those of cpu_execution.h, so that no GPU is needed.
//
//   shell_driver INPUTS OUTPUTS < description
//
// The description's words: plugin NAME; field NAME TYPE COUNT VALUE...; type float32|float16|int32
// of the inputs; batch N; input RANK SIZE... for each. INPUTS holds their values, one input after
// the other; OUTPUTS gets the outputs. Says their shapes, or "refused: <log>" when the creator
// refuses the fields.
#include <NvInferRuntime.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <list>
#include <memory>
#include <string>
#include <vector>

using namespace nvinfer1;

extern "C" IPluginCreatorInterface* const* getCreators(std::int32_t& count);
extern "C" void setLoggerFinder(ILoggerFinder* finder);

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            std::cout << __LINE__ << ": " #condition " (log: " << log.text << ")\n"; \
            std::exit(1);                                                            \
        }                                                                            \
    } while (false)

namespace {

struct Log final : ILogger {
    std::string text;
    void log(Severity, AsciiChar const* message) noexcept override { text = message; }
} log;

struct Finder final : ILoggerFinder {
    ILogger* findLogger() override { return &log; }
} finder;

// A size that is known, as in a network of static shapes, or not, as a dynamic batch.
struct Size final : IDimensionExpr {
    struct Value final : apiv::VDimensionExpr {
        std::int64_t value;
        bool isConstant() const override { return value >= 0; }
        std::int64_t getConstantValue() const override { return value; }
        bool isSizeTensor() const override { return false; }
    } own;
    explicit Size(std::int64_t value) {
        own.value = value;
        mImpl = &own;
    }
};

struct Sizes final : IExprBuilder {
    std::list<Size> all;
    struct Maker final : apiv::VExprBuilder {
        Sizes* sizes;
        IDimensionExpr const* constant(std::int64_t value) override {
            return &sizes->all.emplace_back(value);
        }
        IDimensionExpr const* operation(DimensionOperation, IDimensionExpr const&,
                                        IDimensionExpr const&) override {
            return nullptr;
        }
        IDimensionExpr const* declareSizeTensor(std::int32_t, IDimensionExpr const&,
                                                IDimensionExpr const&) override {
            return nullptr;
        }
    } own;
    Sizes() {
        own.sizes = this;
        mImpl = &own;
    }
};

struct Field {
    std::string name, type, text;
    std::vector<double> numbers;
    std::vector<float> floats;
    std::vector<std::int32_t> ints;

    PluginField as_plugin_field() {
        auto const count = static_cast<std::int32_t>(numbers.size());
        if (type == "text") {
            return {name.c_str(), text.c_str(), PluginFieldType::kCHAR,
                    static_cast<std::int32_t>(text.size() + 1)};
        }
        if (type == "int32") {
            ints.assign(numbers.begin(), numbers.end());
            return {name.c_str(), ints.data(), PluginFieldType::kINT32, count};
        }
        if (type == "float32") {
            floats.assign(numbers.begin(), numbers.end());
            return {name.c_str(), floats.data(), PluginFieldType::kFLOAT32, count};
        }
        return {name.c_str(), numbers.data(), PluginFieldType::kFLOAT64, count};
    }
};

struct Description {
    std::string plugin;
    std::list<Field> fields;
    std::string type = "float32";
    int batch = 1;
    std::vector<Dims> inputs;  // with the batch axis
};

Description read(std::istream& in) {
    Description result;
    for (std::string word; in >> word;) {
        if (word == "plugin") in >> result.plugin;
        if (word == "type") in >> result.type;
        if (word == "batch") in >> result.batch;
        if (word == "input") {
            Dims dims{};
            in >> dims.nbDims;
            dims.d[0] = result.batch;
            for (int i = 1; i <= dims.nbDims; ++i) in >> dims.d[i];
            ++dims.nbDims;
            result.inputs.push_back(dims);
        }
        if (word == "field") {
            Field& field = result.fields.emplace_back();
            int count;
            in >> field.name >> field.type >> count;
            if (field.type == "text") {
                in.ignore();
                std::getline(in, field.text);
            } else {
                field.numbers.resize(count);
                for (double& value : field.numbers) in >> value;
            }
        }
    }
    return result;
}

IPluginCreatorV3One* creator_of(std::string const& name) {
    std::int32_t count = 0;
    IPluginCreatorInterface* const* creators = getCreators(count);
    for (std::int32_t i = 0; i < count; ++i) {
        CHECK(std::strcmp(creators[i]->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") == 0);
        auto* creator = static_cast<IPluginCreatorV3One*>(creators[i]);
        if (name == creator->getPluginName()) return creator;
    }
    return nullptr;
}

std::int64_t volume(Dims const& dims) {
    std::int64_t result = 1;
    for (int i = 0; i < dims.nbDims; ++i) result *= dims.d[i];
    return result;
}

PluginTensorDesc tensor(Dims const& dims, DataType type,
                        TensorFormat format = TensorFormat::kLINEAR) {
    PluginTensorDesc result{};
    result.dims = dims;
    result.type = type;
    result.format = format;
    return result;
}

DynamicPluginTensorDesc dynamic(PluginTensorDesc const& desc) {
    DynamicPluginTensorDesc result{};
    result.desc = desc;
    result.min = result.max = result.opt = desc.dims;
    return result;
}

template <typename Interface>
Interface* capability(IPluginV3& plugin, PluginCapabilityType type) {
    return static_cast<Interface*>(plugin.getCapabilityInterface(type));
}

void check_creator(IPluginCreatorV3One& creator, std::string const& name) {
    CHECK(std::string(creator.getPluginNamespace()) == "trt_lane");
    CHECK(creator.getPluginVersion()[0] != '\0');
    PluginFieldCollection const* fields = creator.getFieldNames();
    CHECK(fields->nbFields > 0);
    for (std::int32_t i = 0; i < fields->nbFields; ++i) CHECK(fields->fields[i].name != nullptr);
    PluginField unknown("no_such_field", nullptr, PluginFieldType::kFLOAT32, 0);
    PluginFieldCollection const wrong{1, &unknown};
    CHECK(!creator.createPlugin("wrong", &wrong, TensorRTPhase::kBUILD));
    CHECK(log.text.find(name + ": no field 'no_such_field'") == 0);
    PluginField hollow("frame_hw", nullptr, PluginFieldType::kINT32, 2);
    PluginFieldCollection const without_data{1, &hollow};
    CHECK(!creator.createPlugin("hollow", &without_data, TensorRTPhase::kBUILD));
    CHECK(log.text.find("frame_hw has no data; expected 2 values") != std::string::npos);
    PluginFieldCollection const nothing{0, nullptr};
    CHECK(!creator.createPlugin("nothing", &nothing, TensorRTPhase::kBUILD));
    CHECK(log.text.find("is missing") != std::string::npos);
}

DataType type_of(std::string const& name) {
    return name == "int32"     ? DataType::kINT32
           : name == "float16" ? DataType::kHALF
                               : DataType::kFLOAT;
}

std::size_t bytes_of(DataType type) {
    return type == DataType::kINT8 ? 1 : type == DataType::kHALF ? 2 : 4;
}

// Every tensor is taken as it should be, and in no other format or type; sizes must fit.
void check_formats(IPluginV3OneBuild& build, std::vector<PluginTensorDesc> const& inputs,
                   std::vector<PluginTensorDesc> const& outputs) {
    auto const in = static_cast<std::int32_t>(inputs.size());
    auto const out = static_cast<std::int32_t>(outputs.size());
    std::vector<DynamicPluginTensorDesc> tensors;
    for (PluginTensorDesc const& desc : inputs) tensors.push_back(dynamic(desc));
    for (PluginTensorDesc const& desc : outputs) tensors.push_back(dynamic(desc));
    for (std::int32_t i = 0; i < in + out; ++i) {
        CHECK(build.supportsFormatCombination(i, tensors.data(), in, out));
        auto const kept = tensors[i];
        tensors[i].desc.format = TensorFormat::kCHW32;
        CHECK(!build.supportsFormatCombination(i, tensors.data(), in, out));
        tensors[i] = kept;
        tensors[i].desc.type = DataType::kBOOL;
        CHECK(!build.supportsFormatCombination(i, tensors.data(), in, out));
        tensors[i] = kept;
    }
    for (std::int32_t i = 1; i < in; ++i) {  // all heads are of one type
        auto const kept = tensors[i];
        tensors[i].desc.type =
            kept.desc.type == DataType::kHALF ? DataType::kFLOAT : DataType::kHALF;
        CHECK(!build.supportsFormatCombination(i, tensors.data(), in, out));
        tensors[i] = kept;
    }
    CHECK(build.configurePlugin(tensors.data(), in, tensors.data() + in, out) == 0);
    CHECK(build.configurePlugin(tensors.data(), in, tensors.data() + in, out + 1) != 0);
    for (std::int32_t i = 0; i < in; ++i) {
        auto const kept = tensors[i];
        tensors[i].desc.dims.d[0] = -1;  // a dynamic batch
        CHECK(build.configurePlugin(tensors.data(), in, tensors.data() + in, out) == 0);
        ++tensors[i].desc.dims.d[tensors[i].desc.dims.nbDims - 1];
        CHECK(build.configurePlugin(tensors.data(), in, tensors.data() + in, out) != 0);
        CHECK(log.text.find("; expected (-1, ") != std::string::npos);
        tensors[i] = kept;
    }
}

std::vector<Dims> output_shapes(IPluginV3OneBuild& build, Description const& given) {
    Sizes sizes;
    std::vector<DimsExprs> inputs(given.inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        inputs[i].nbDims = given.inputs[i].nbDims;
        for (int d = 0; d < inputs[i].nbDims; ++d) {
            inputs[i].d[d] = sizes.own.constant(given.inputs[i].d[d]);
        }
    }
    auto const in = static_cast<std::int32_t>(inputs.size());
    std::int32_t const out = build.getNbOutputs();
    std::vector<DimsExprs> found(out + 1);
    CHECK(build.getOutputShapes(inputs.data(), in, nullptr, 0, found.data(), out + 1, sizes) != 0);
    CHECK(build.getOutputShapes(inputs.data(), in, nullptr, 0, found.data(), out, sizes) == 0);
    std::vector<Dims> result(out);
    for (std::int32_t i = 0; i < out; ++i) {
        result[i].nbDims = found[i].nbDims;
        for (int d = 0; d < found[i].nbDims; ++d) {
            result[i].d[d] = found[i].d[d]->getConstantValue();
        }
    }
    return result;
}

bool same_fields(PluginFieldCollection const& a, PluginFieldCollection const& b) {
    bool same = a.nbFields == b.nbFields;
    for (std::int32_t i = 0; same && i < a.nbFields; ++i) {
        PluginField const &x = a.fields[i], &y = b.fields[i];
        std::size_t const size = x.type == PluginFieldType::kCHAR ? 1 : sizeof(double);
        same = std::strcmp(x.name, y.name) == 0 && x.type == y.type && x.length == y.length &&
               std::memcmp(x.data, y.data, size * x.length) == 0;
    }
    return same;
}

// The addresses of one enqueue.
struct Launch {
    void const* const* inputs;
    void* const* outputs;
    void* workspace;

    std::int32_t on(IPluginV3OneRuntime& runtime, std::vector<PluginTensorDesc> const& given,
                    std::vector<PluginTensorDesc> const& results) const {
        return runtime.enqueue(given.data(), results.data(), inputs, outputs, workspace, nullptr);
    }
};

// An empty batch is nothing to do, and heads are of one batch.
void check_batches(IPluginV3OneRuntime& runtime, std::vector<PluginTensorDesc> given,
                   std::vector<PluginTensorDesc> results, Launch const& launch) {
    auto const in = static_cast<std::int32_t>(given.size());
    auto const out = static_cast<std::int32_t>(results.size());
    for (PluginTensorDesc& desc : given) desc.dims.d[0] = 0;
    for (PluginTensorDesc& desc : results) desc.dims.d[0] = 0;
    CHECK(runtime.onShapeChange(given.data(), in, results.data(), out) == 0);
    CHECK(launch.on(runtime, given, results) == 0);
    for (std::int32_t i = 1; i < in; ++i) {
        given[i].dims.d[0] = 1;
        CHECK(runtime.onShapeChange(given.data(), in, results.data(), out) != 0);
        CHECK(log.text.find(" has 1 frames; expected 0, as ") != std::string::npos);
        given[i].dims.d[0] = 0;
    }
}

}  // namespace

int main(int count, char** words) {
    CHECK(count == 3);
    setLoggerFinder(&finder);
    Description given = read(std::cin);
    IPluginCreatorV3One* creator = creator_of(given.plugin);
    CHECK(creator);
    check_creator(*creator, given.plugin);

    std::vector<PluginField> fields;
    for (Field& field : given.fields) fields.push_back(field.as_plugin_field());
    PluginFieldCollection const collection{static_cast<std::int32_t>(fields.size()), fields.data()};
    std::unique_ptr<IPluginV3> first(
        creator->createPlugin("node", &collection, TensorRTPhase::kBUILD));
    if (!first) {
        std::cout << "refused: " << log.text << "\n";
        return 0;
    }
    auto* runtime = capability<IPluginV3OneRuntime>(*first, PluginCapabilityType::kRUNTIME);
    std::unique_ptr<IPluginV3> plugin(
        creator->createPlugin("loaded", runtime->getFieldsToSerialize(), TensorRTPhase::kRUNTIME));
    CHECK(plugin);
    std::unique_ptr<IPluginV3> copy(plugin->clone());
    for (IPluginV3* other : {plugin.get(), copy.get()}) {
        auto* saved = capability<IPluginV3OneRuntime>(*other, PluginCapabilityType::kRUNTIME);
        CHECK(same_fields(*runtime->getFieldsToSerialize(), *saved->getFieldsToSerialize()));
    }
    first.reset();  // a plugin must not live on its parent's memory
    plugin = std::move(copy);

    auto* core = capability<IPluginV3OneCore>(*plugin, PluginCapabilityType::kCORE);
    CHECK(given.plugin == core->getPluginName());
    CHECK(std::string(core->getPluginNamespace()) == "trt_lane");
    CHECK(std::string(core->getPluginVersion()) == creator->getPluginVersion());
    auto* build = capability<IPluginV3OneBuild>(*plugin, PluginCapabilityType::kBUILD);
    auto const in = static_cast<std::int32_t>(given.inputs.size());
    std::int32_t const out_count = build->getNbOutputs();
    DataType const type = type_of(given.type);
    std::vector<DataType> const input_types(in, type);
    std::vector<DataType> types(out_count);
    CHECK(build->getOutputDataTypes(types.data(), out_count, input_types.data(), in) == 0);
    CHECK(build->getOutputDataTypes(types.data(), out_count + 1, input_types.data(), in) != 0);
    std::vector<Dims> const outputs = output_shapes(*build, given);
    std::vector<PluginTensorDesc> inputs, results;
    std::vector<DynamicPluginTensorDesc> inputs_range;
    for (Dims const& dims : given.inputs) {
        inputs.push_back(tensor(dims, type));
        inputs_range.push_back(dynamic(inputs.back()));
    }
    for (int i = 0; i < out_count; ++i) results.push_back(tensor(outputs[i], types[i]));
    check_formats(*build, inputs, results);
    std::vector<char> workspace(build->getWorkspaceSize(inputs_range.data(), in, nullptr, 0));

    runtime = capability<IPluginV3OneRuntime>(*plugin, PluginCapabilityType::kRUNTIME);
    std::unique_ptr<IPluginV3> attached(runtime->attachToContext(nullptr));
    runtime = capability<IPluginV3OneRuntime>(*attached, PluginCapabilityType::kRUNTIME);
    std::ifstream file(words[1], std::ios::binary);
    std::vector<std::vector<char>> memory;
    std::vector<void const*> pointers;
    for (Dims const& dims : given.inputs) {
        std::vector<char>& bytes = memory.emplace_back(volume(dims) * bytes_of(type));
        CHECK(file.read(bytes.data(), static_cast<std::streamsize>(bytes.size())));
        pointers.push_back(bytes.data());
    }
    std::vector<std::vector<char>> made;
    std::vector<void*> addresses;
    for (int i = 0; i < out_count; ++i) {
        made.emplace_back(volume(outputs[i]) * bytes_of(types[i]), '\xcb');
        addresses.push_back(made.back().data());
    }
    Launch const launch{pointers.data(), addresses.data(), workspace.data()};
    check_batches(*runtime, inputs, results, launch);
    CHECK(runtime->onShapeChange(inputs.data(), in, results.data(), out_count) == 0);
    CHECK(launch.on(*runtime, inputs, results) == 0);
    std::ofstream out(words[2], std::ios::binary);
    for (std::vector<char> const& bytes : made) {
        out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
    for (Dims const& dims : outputs) {
        for (int d = 0; d < dims.nbDims; ++d) std::cout << (d ? " " : "") << dims.d[d];
        std::cout << "\n";
    }
    return out ? 0 : 1;
}
