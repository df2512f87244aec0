// Line anchors as TensorRT sees them.
#include "common/shell.h"

TRT_LANE_PLUGIN(line_anchor)
