// All decoders of this library, from the folders of plugins/.
#include <cstring>

#include "common/decoder.h"
#include "specs.h"

namespace trt_lane {
namespace {

template <typename D>
std::unique_ptr<Decoder> make(Fields const& fields) {
    return std::make_unique<DecoderOf<D>>(fields);
}

}  // namespace

std::vector<DecoderEntry> const& decoders() {
#define TRT_LANE_ENTRY(name, type) {&name##_spec, make<type>},
    static std::vector<DecoderEntry> const all = {TRT_LANE_DECODERS(TRT_LANE_ENTRY)};
#undef TRT_LANE_ENTRY
    return all;
}

PluginSpec const* find_plugin(char const* name) {
#define TRT_LANE_SPEC(name) &name##_spec,
    static PluginSpec const* const all[] = {TRT_LANE_PLUGINS(TRT_LANE_SPEC)};
#undef TRT_LANE_SPEC
    for (PluginSpec const* spec : all) {
        if (std::strcmp(spec->name, name) == 0) return spec;
    }
    return nullptr;
}

DecoderEntry const* find_decoder(char const* name) {
    for (DecoderEntry const& entry : decoders()) {
        if (std::strcmp(entry.spec->name, name) == 0) return &entry;
    }
    return nullptr;
}

}  // namespace trt_lane
