// Plays TensorRT to a plugin: builds it from fields, asks what a builder asks, saves and loads it,
// and runs one enqueue. Its kernels are those of cpu_execution.h, so that no GPU is needed.
//
//   shell_driver HEADS OUTPUTS < description
//
// The description's words: plugin NAME; field NAME TYPE COUNT VALUE...; half 0|1; batch N;
// head RANK SIZE... for each head. HEADS holds their values, one head after the other; OUTPUTS gets
// points, scores and count. Says "refused: <log>" when the creator refuses the fields.
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
    bool half = false;
    int batch = 1;
    std::vector<Dims> heads;  // with the batch axis
};

Description read(std::istream& in) {
    Description result;
    for (std::string word; in >> word;) {
        if (word == "plugin") in >> result.plugin;
        if (word == "half") in >> result.half;
        if (word == "batch") in >> result.batch;
        if (word == "head") {
            Dims dims{};
            in >> dims.nbDims;
            dims.d[0] = result.batch;
            for (int i = 1; i <= dims.nbDims; ++i) in >> dims.d[i];
            ++dims.nbDims;
            result.heads.push_back(dims);
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
    PluginFieldCollection const nothing{0, nullptr};
    CHECK(!creator.createPlugin("nothing", &nothing, TensorRTPhase::kBUILD));
    CHECK(log.text.find("is missing") != std::string::npos);
}

void check_formats(IPluginV3OneBuild& build, Description const& given, DataType type,
                   std::vector<Dims> const& outputs) {
    auto const heads = static_cast<std::int32_t>(given.heads.size());
    std::vector<DynamicPluginTensorDesc> tensors;
    for (Dims const& dims : given.heads) tensors.push_back(dynamic(tensor(dims, type)));
    DataType const types[] = {DataType::kFLOAT, DataType::kFLOAT, DataType::kINT32};
    for (int i = 0; i < 3; ++i) tensors.push_back(dynamic(tensor(outputs[i], types[i])));
    for (std::int32_t i = 0; i < heads + 3; ++i) {
        CHECK(build.supportsFormatCombination(i, tensors.data(), heads, 3));
        auto const kept = tensors[i];
        tensors[i].desc.format = TensorFormat::kCHW32;
        CHECK(!build.supportsFormatCombination(i, tensors.data(), heads, 3));
        tensors[i] = kept;
        tensors[i].desc.type = DataType::kINT8;
        CHECK(!build.supportsFormatCombination(i, tensors.data(), heads, 3));
        tensors[i] = kept;
    }
    for (std::int32_t i = 1; i < heads; ++i) {  // all heads are of one type
        tensors[i].desc.type = type == DataType::kHALF ? DataType::kFLOAT : DataType::kHALF;
        CHECK(!build.supportsFormatCombination(i, tensors.data(), heads, 3));
        tensors[i].desc.type = type;
    }
    CHECK(build.configurePlugin(tensors.data(), heads, tensors.data() + heads, 3) == 0);
    CHECK(build.configurePlugin(tensors.data(), heads, tensors.data() + heads, 2) != 0);
    for (std::int32_t i = 0; i < heads; ++i) {
        auto const kept = tensors[i];
        tensors[i].desc.dims.d[0] = -1;  // a dynamic batch
        CHECK(build.configurePlugin(tensors.data(), heads, tensors.data() + heads, 3) == 0);
        ++tensors[i].desc.dims.d[tensors[i].desc.dims.nbDims - 1];
        CHECK(build.configurePlugin(tensors.data(), heads, tensors.data() + heads, 3) != 0);
        CHECK(log.text.find("; expected (-1, ") != std::string::npos);
        tensors[i] = kept;
    }
}

std::vector<Dims> output_shapes(IPluginV3OneBuild& build, Description const& given) {
    Sizes sizes;
    std::vector<DimsExprs> inputs(given.heads.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        inputs[i].nbDims = given.heads[i].nbDims;
        for (int d = 0; d < inputs[i].nbDims; ++d) {
            inputs[i].d[d] = sizes.constant(given.heads[i].d[d]);
        }
    }
    auto const heads = static_cast<std::int32_t>(inputs.size());
    DimsExprs found[3] = {};
    CHECK(build.getOutputShapes(inputs.data(), heads, nullptr, 0, found, 2, sizes) != 0);
    CHECK(build.getOutputShapes(inputs.data(), heads, nullptr, 0, found, 3, sizes) == 0);
    std::vector<Dims> result(3);
    for (int i = 0; i < 3; ++i) {
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
    CHECK(build->getNbOutputs() == 3);
    DataType types[3];
    DataType const type = given.half ? DataType::kHALF : DataType::kFLOAT;
    std::vector<DataType> const inputs_types(given.heads.size(), type);
    auto const heads = static_cast<std::int32_t>(given.heads.size());
    CHECK(build->getOutputDataTypes(types, 3, inputs_types.data(), heads) == 0);
    CHECK(types[0] == DataType::kFLOAT && types[2] == DataType::kINT32);
    std::vector<Dims> const outputs = output_shapes(*build, given);
    check_formats(*build, given, type, outputs);

    std::vector<PluginTensorDesc> inputs, results;
    std::vector<DynamicPluginTensorDesc> inputs_range;
    for (Dims const& dims : given.heads) {
        inputs.push_back(tensor(dims, type));
        inputs_range.push_back(dynamic(inputs.back()));
    }
    for (int i = 0; i < 3; ++i) results.push_back(tensor(outputs[i], types[i]));
    std::vector<char> workspace(build->getWorkspaceSize(inputs_range.data(), heads, nullptr, 0));

    runtime = capability<IPluginV3OneRuntime>(*plugin, PluginCapabilityType::kRUNTIME);
    std::unique_ptr<IPluginV3> attached(runtime->attachToContext(nullptr));
    runtime = capability<IPluginV3OneRuntime>(*attached, PluginCapabilityType::kRUNTIME);
    CHECK(runtime->onShapeChange(inputs.data(), heads, results.data(), 3) == 0);
    std::ifstream file(words[1], std::ios::binary);
    std::vector<std::vector<char>> memory;
    std::vector<void const*> pointers;
    for (Dims const& dims : given.heads) {
        std::vector<char>& head = memory.emplace_back(volume(dims) * (given.half ? 2 : 4));
        CHECK(file.read(head.data(), static_cast<std::streamsize>(head.size())));
        pointers.push_back(head.data());
    }
    std::vector<std::vector<char>> lanes;
    std::vector<void*> addresses;
    for (Dims const& dims : outputs) {
        addresses.push_back(lanes.emplace_back(volume(dims) * 4, '\xcb').data());
    }
    CHECK(runtime->enqueue(inputs.data(), results.data(), pointers.data(), addresses.data(),
                           workspace.data(), nullptr) == 0);
    std::ofstream out(words[2], std::ios::binary);
    for (std::vector<char> const& bytes : lanes) {
        out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
    std::cout << outputs[0].d[1] << " " << outputs[0].d[2] << "\n";
    return out ? 0 : 1;
}
