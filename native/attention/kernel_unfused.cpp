// The plain kernels for processors without fused multiply-add, where a function of libm would take its place.
#include "attention/kernel_sets.h"

namespace trimode {

namespace {

#define TRIMODE_UNFUSED
#include "attention/plain_lanes.h"

#include "attention/kernel_body.h"

}  // namespace

extern const AttentionKernel ATTENTION_UNFUSED = {"unfused", stretch, fold, finish};

}  // namespace trimode
