// Bézier curves as TensorRT sees them.
#include "common/shell.h"

TRT_LANE_PLUGIN(bezier_curve)
