// Segmentation as TensorRT sees it.
#include "common/shell.h"

TRT_LANE_PLUGIN(segmentation)
