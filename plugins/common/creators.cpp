// What TensorRT's registry asks a plugin library for.
#include <NvInferRuntime.h>

#include <vector>

#include "specs.h"

#define TRT_LANE_EXPORT extern "C" __attribute__((visibility("default")))

namespace trt_lane {
#define TRT_LANE_DECLARE(name) nvinfer1::IPluginCreatorInterface* name##_creator();
TRT_LANE_PLUGINS(TRT_LANE_DECLARE)
#undef TRT_LANE_DECLARE
void set_logger_finder(nvinfer1::ILoggerFinder* finder);
}  // namespace trt_lane

TRT_LANE_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count) {
#define TRT_LANE_CREATOR(name) trt_lane::name##_creator(),
    static std::vector<nvinfer1::IPluginCreatorInterface*> const creators = {
        TRT_LANE_PLUGINS(TRT_LANE_CREATOR)};
#undef TRT_LANE_CREATOR
    count = static_cast<std::int32_t>(creators.size());
    return creators.data();
}

TRT_LANE_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
    trt_lane::set_logger_finder(finder);
}
