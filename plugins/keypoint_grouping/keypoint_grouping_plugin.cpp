// Key-point grouping as TensorRT sees it.
#include "common/shell.h"

TRT_LANE_PLUGIN(keypoint_grouping)
