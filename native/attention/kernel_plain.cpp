// Plain C++: the reference of the other sets, and what other processors run. Loops over 16 lanes, which compilers make
// vectors of.
#include "attention/kernel_sets.h"

namespace trimode {

namespace {

#include "attention/plain_lanes.h"

#include "attention/kernel_body.h"

}  // namespace

extern const AttentionKernel ATTENTION_PLAIN = {"plain", stretch, fold, finish};

}  // namespace trimode
