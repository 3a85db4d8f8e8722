// What ggml does where it cannot go on, mostly for want of memory: abort(), behind a backtrace by a debugger.
#pragma once

namespace trimode::GgmlAbort {

// At import: one line on stderr instead, and exit code 1. There is no way back: ggml is C.
void install();

}  // namespace trimode::GgmlAbort
