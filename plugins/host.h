// The C interface of libtrt_lane_plugins.so and libtrt_lane_host.so, for ctypes and other
// languages.
//
// A decoder is made once from its numbers and is then immutable: any number of threads may use it.
// Functions that return a pointer return nullptr, and those that return an int something but 0,
// when they fail; trt_lane_error() then says why, in the calling thread.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define TRT_LANE_API extern "C" __attribute__((visibility("default")))
#else
#define TRT_LANE_API extern "C" __declspec(dllexport)
#endif

// Changes when a function here does.
#define TRT_LANE_ABI 2

struct trt_lane_field {
    char const* name;
    double const* numbers;  // or
    int32_t count;
    char const* text;  // nullptr when there are numbers
};

struct trt_lane_decoder;

TRT_LANE_API int32_t trt_lane_abi(void);
TRT_LANE_API char const* trt_lane_error(void);
TRT_LANE_API int32_t trt_lane_has_kernels(void);
// Names of all decoders, separated by blanks.
TRT_LANE_API char const* trt_lane_decoders(void);
// What a decoder or `preprocess` takes, for people: one line per field.
TRT_LANE_API char const* trt_lane_help(char const* plugin);
// "head axis ..." of a field that holds sizes of a head, without the batch axis; "" for others.
TRT_LANE_API char const* trt_lane_sizes_of(char const* decoder, char const* field);
// Names of a plugin's fields, separated by blanks.
TRT_LANE_API char const* trt_lane_fields(char const* plugin);

TRT_LANE_API trt_lane_decoder* trt_lane_make(char const* decoder, trt_lane_field const* fields,
                                             int32_t count);
TRT_LANE_API void trt_lane_free(trt_lane_decoder* decoder);

TRT_LANE_API int32_t trt_lane_slots(trt_lane_decoder const* decoder);
TRT_LANE_API int32_t trt_lane_points(trt_lane_decoder const* decoder);
TRT_LANE_API int32_t trt_lane_heads(trt_lane_decoder const* decoder);
// Name of a head, and its shape without the batch axis: up to 8 sizes, their number is returned.
TRT_LANE_API char const* trt_lane_head_name(trt_lane_decoder const* decoder, int32_t head);
TRT_LANE_API int32_t trt_lane_head_shape(trt_lane_decoder const* decoder, int32_t head,
                                         int64_t* sizes);
TRT_LANE_API size_t trt_lane_workspace(trt_lane_decoder const* decoder, int32_t batch);

// heads: float32 (half = 0) or float16 (half = 1), each contiguous (N, ...) in the order above.
// points (N, slots, points, 2), scores (N, slots) float32; count int32 (N, 2): see decoder.h.
TRT_LANE_API int32_t trt_lane_decode(trt_lane_decoder const* decoder, void const* const* heads,
                                     int32_t half, int32_t batch, float* points, float* scores,
                                     int32_t* count);
// The same by the kernels: all pointers on the device, nothing is allocated or waited for.
TRT_LANE_API int32_t trt_lane_launch(trt_lane_decoder const* decoder, void const* const* heads,
                                     int32_t half, int32_t batch, float* points, float* scores,
                                     int32_t* count, void* workspace, void* stream);

// ---- camera frames to the network's input; fields as in preprocess.yaml ------------------------

struct trt_lane_preprocess;

TRT_LANE_API trt_lane_preprocess* trt_lane_preprocess_make(trt_lane_field const* fields,
                                                           int32_t count);
TRT_LANE_API void trt_lane_preprocess_free(trt_lane_preprocess* preprocess);
TRT_LANE_API size_t trt_lane_preprocess_workspace(trt_lane_preprocess const* preprocess);
// data: the first byte of each frame of the batch; chroma: of nv12's second plane, nullptr where it
// follows the first one. out: (batch, 3, h, w) of the type that the field `output` names.
TRT_LANE_API int32_t trt_lane_preprocess_run(trt_lane_preprocess const* preprocess,
                                             uint8_t const* const* data,
                                             uint8_t const* const* chroma, int32_t batch,
                                             void* out);
// The same by the kernels: all pointers but the two lists on the device, nothing is waited for.
TRT_LANE_API int32_t trt_lane_preprocess_launch(trt_lane_preprocess const* preprocess,
                                                uint8_t const* const* data,
                                                uint8_t const* const* chroma, int32_t batch,
                                                void* out, void* workspace, void* stream);
