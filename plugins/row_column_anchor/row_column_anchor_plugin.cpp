// Row and column anchors as TensorRT sees them.
#include "common/shell.h"

TRT_LANE_PLUGIN(row_column_anchor)
