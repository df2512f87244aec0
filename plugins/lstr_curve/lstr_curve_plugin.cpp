// LSTR's curves as TensorRT sees them.
#include "common/shell.h"

TRT_LANE_PLUGIN(lstr_curve)
