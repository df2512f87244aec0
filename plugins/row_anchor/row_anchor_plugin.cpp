// Row anchors as TensorRT sees them.
#include "common/shell.h"

TRT_LANE_PLUGIN(row_anchor)
