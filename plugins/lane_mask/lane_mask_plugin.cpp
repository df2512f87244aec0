// Lane masks as TensorRT sees them.
#include "common/shell.h"

TRT_LANE_PLUGIN(lane_mask)
