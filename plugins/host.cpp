// The C interface: checks what comes in, and turns exceptions into messages.
#include "host.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "common/decoder.h"
#include "preprocess/preprocess_host.h"

using trt_lane::DecoderEntry;
using trt_lane::FieldSpec;
using trt_lane::Heads;
using trt_lane::HeadType;
using trt_lane::Lanes;

struct trt_lane_decoder {
    trt_lane::PluginSpec const* spec;
    std::unique_ptr<trt_lane::Decoder> decoder;
    std::vector<trt_lane::Shape> heads;
};

namespace {

thread_local std::string error_text;

trt_lane::PluginSpec const& spec_of(char const* name) {
    if (trt_lane::PluginSpec const* spec = trt_lane::find_plugin(name)) return *spec;
    throw trt_lane::FieldError(std::string("no plugin '") + name + "'; plugins: preprocess " +
                               trt_lane_decoders());
}

trt_lane::Fields fields_of(trt_lane::PluginSpec const& spec, trt_lane_field const* fields,
                           int32_t count) {
    trt_lane::Fields values(spec);
    for (trt_lane_field const* field = fields; field != fields + count; ++field) {
        if (field->text) {
            values.set_text(field->name, field->text);
        } else {
            values.set(field->name, {field->numbers, field->numbers + field->count});
        }
    }
    values.finish();
    return values;
}

DecoderEntry const& entry_of(char const* name) {
    if (DecoderEntry const* entry = trt_lane::find_decoder(name)) return *entry;
    throw trt_lane::FieldError(std::string("no plugin '") + name +
                               "'; plugins: " + trt_lane_decoders());
}

Heads checked_heads(trt_lane_decoder const* decoder, void const* const* heads, int32_t half,
                    int32_t batch) {
    if (batch < 1) throw trt_lane::FieldError("batch is not positive");
    Heads result{};
    result.type = half ? HeadType::kHalf : HeadType::kFloat;
    std::copy(heads, heads + decoder->heads.size(), result.data);
    return result;
}

template <typename Result, typename Function>
Result guarded(Result failed, Function const& function) noexcept {
    try {
        return function();
    } catch (std::exception const& error) {
        error_text = error.what();
    }
    return failed;
}

[[noreturn]] void throw_no_kernels() {
    throw std::runtime_error("this library was built for a host; run: make plugins");
}

// A launch's status, with its message kept.
int32_t checked(int status) {
#ifdef TRT_LANE_KERNELS
    if (status) error_text = cudaGetErrorString(static_cast<cudaError_t>(status));
#endif
    return status;
}

std::string help_of(trt_lane::PluginSpec const& spec) {
    std::string text = std::string(spec.name) + ": " + spec.help + "\n";
    for (int i = 0; i < spec.field_count; ++i) {
        FieldSpec const& field = spec.fields[i];
        text += std::string("  ") + field.name + ": " + trt_lane::Fields::expected(field);
        if (field.fallback) text += std::string(", default ") + field.fallback;
        text += std::string(". ") + field.help + "\n";
    }
    return text;
}

}  // namespace

int32_t trt_lane_abi(void) { return TRT_LANE_ABI; }

char const* trt_lane_error(void) { return error_text.c_str(); }

int32_t trt_lane_has_kernels(void) {
#ifdef TRT_LANE_KERNELS
    return 1;
#else
    return 0;
#endif
}

char const* trt_lane_decoders(void) {
    static std::string const names = [] {
        std::string text;
        for (DecoderEntry const& entry : trt_lane::decoders()) {
            text += (text.empty() ? "" : " ") + std::string(entry.spec->name);
        }
        return text;
    }();
    return names.c_str();
}

char const* trt_lane_help(char const* plugin) {
    thread_local std::string text;
    return guarded<char const*>(nullptr, [&] {
        text = help_of(spec_of(plugin));
        return text.c_str();
    });
}

char const* trt_lane_fields(char const* plugin) {
    thread_local std::string text;
    return guarded<char const*>(nullptr, [&] {
        trt_lane::PluginSpec const& spec = spec_of(plugin);
        text.clear();
        for (int i = 0; i < spec.field_count; ++i) {
            text += (i ? " " : "") + std::string(spec.fields[i].name);
        }
        return text.c_str();
    });
}

char const* trt_lane_sizes_of(char const* decoder, char const* field) {
    return guarded<char const*>(nullptr, [&] {
        trt_lane::PluginSpec const& spec = *entry_of(decoder).spec;
        return spec.fields[trt_lane::Fields(spec).known(field)].sizes_of;
    });
}

trt_lane_decoder* trt_lane_make(char const* decoder, trt_lane_field const* fields, int32_t count) {
    return guarded<trt_lane_decoder*>(nullptr, [&] {
        DecoderEntry const& entry = entry_of(decoder);
        trt_lane::Fields const values = fields_of(*entry.spec, fields, count);
        auto made = std::make_unique<trt_lane_decoder>();
        made->spec = entry.spec;
        made->decoder = entry.make(values);
        made->heads = made->decoder->head_shapes();
        return made.release();
    });
}

void trt_lane_free(trt_lane_decoder* decoder) { delete decoder; }

int32_t trt_lane_slots(trt_lane_decoder const* decoder) { return decoder->decoder->slots(); }

int32_t trt_lane_points(trt_lane_decoder const* decoder) { return decoder->decoder->points(); }

int32_t trt_lane_heads(trt_lane_decoder const* decoder) {
    return static_cast<int32_t>(decoder->heads.size());
}

char const* trt_lane_head_name(trt_lane_decoder const* decoder, int32_t head) {
    return decoder->spec->heads[head];
}

int32_t trt_lane_head_shape(trt_lane_decoder const* decoder, int32_t head, int64_t* sizes) {
    trt_lane::Shape const& shape = decoder->heads[head];
    std::copy(shape.begin(), shape.end(), sizes);
    return static_cast<int32_t>(shape.size());
}

size_t trt_lane_workspace(trt_lane_decoder const* decoder, int32_t batch) {
    return decoder->decoder->workspace_bytes(batch);
}

int32_t trt_lane_decode(trt_lane_decoder const* decoder, void const* const* heads, int32_t half,
                        int32_t batch, float* points, float* scores, int32_t* count) {
    return guarded<int32_t>(1, [&] {
        Heads const given = checked_heads(decoder, heads, half, batch);
        decoder->decoder->decode(given, batch, Lanes{points, scores, count});
        return 0;
    });
}

int32_t trt_lane_launch(trt_lane_decoder const* decoder, void const* const* heads, int32_t half,
                        int32_t batch, float* points, float* scores, int32_t* count,
                        void* workspace, void* stream) {
    return guarded<int32_t>(1, [&] {
        Heads const given = checked_heads(decoder, heads, half, batch);
        int const status =
            decoder->decoder->launch(given, batch, Lanes{points, scores, count}, workspace, stream);
        if (status == trt_lane::kNoKernels) throw_no_kernels();
        return checked(status);
    });
}

// ---- camera frames to the network's input ------------------------------------------------------

struct trt_lane_preprocess {
    trt_lane::HostPreprocess host;
};

namespace {

// The frames of a call, as Preprocess::in_batches wants them.
auto frames_of(uint8_t const* const* data, uint8_t const* const* chroma, int32_t batch) {
    if (batch < 1) throw trt_lane::FieldError("batch is not positive");
    return [=](int i) { return std::make_pair(data[i], chroma ? chroma[i] : nullptr); };
}

}  // namespace

trt_lane_preprocess* trt_lane_preprocess_make(trt_lane_field const* fields, int32_t count) {
    return guarded<trt_lane_preprocess*>(nullptr, [&] {
        trt_lane::Fields const values = fields_of(spec_of("preprocess"), fields, count);
        return new trt_lane_preprocess{
            trt_lane::HostPreprocess(trt_lane::Preprocess::make(values))};
    });
}

void trt_lane_preprocess_free(trt_lane_preprocess* preprocess) { delete preprocess; }

size_t trt_lane_preprocess_workspace(trt_lane_preprocess const* preprocess) {
    return trt_lane::Preprocess::workspace_bytes(preprocess->host.params());
}

int32_t trt_lane_preprocess_run(trt_lane_preprocess const* preprocess, uint8_t const* const* data,
                                uint8_t const* const* chroma, int32_t batch, void* out) {
    return guarded<int32_t>(1, [&] {
        return trt_lane::Preprocess::in_batches(
            preprocess->host.params(), batch, out, frames_of(data, chroma, batch),
            [&](trt_lane::Frames const& frames, int32_t count, void* at) {
                preprocess->host.run(frames, count, at);
                return 0;
            });
    });
}

int32_t trt_lane_preprocess_launch([[maybe_unused]] trt_lane_preprocess const* preprocess,
                                   [[maybe_unused]] uint8_t const* const* data,
                                   [[maybe_unused]] uint8_t const* const* chroma,
                                   [[maybe_unused]] int32_t batch, [[maybe_unused]] void* out,
                                   [[maybe_unused]] void* workspace,
                                   [[maybe_unused]] void* stream) {
    return guarded<int32_t>(1, [&] {
#ifdef TRT_LANE_KERNELS
        trt_lane::PreprocessParams const& p = preprocess->host.params();
        return trt_lane::Preprocess::in_batches(
            p, batch, out, frames_of(data, chroma, batch),
            [&](trt_lane::Frames const& frames, int32_t count, void* at) {
                return checked(trt_lane::Preprocess::launch(p, frames, count, at, workspace,
                                                            static_cast<cudaStream_t>(stream)));
            });
#else
        throw_no_kernels();
        return 1;
#endif
    });
}
