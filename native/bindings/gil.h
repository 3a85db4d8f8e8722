// Work without the GIL.
#pragma once

#include <nanobind/nanobind.h>

#include "util/process_end.h"

namespace trimode {

// As nanobind's gil_scoped_release, and ready for the end of the process.
class GilReleased {
  public:
    GilReleased() {
        ProcessEnd::enter();
        state_ = PyEval_SaveThread();
        ProcessEnd::before_work();
    }
    ~GilReleased() {
        ProcessEnd::before_lock();
        PyEval_RestoreThread(state_);
        ProcessEnd::after_lock();
    }
    GilReleased(const GilReleased &) = delete;
    GilReleased & operator=(const GilReleased &) = delete;

  private:
    PyThreadState * state_;
};

}  // namespace trimode
