// The time a pass takes when the machine does nothing else.
#pragma once

#include <chrono>

namespace trimode {

// Wall time from the construction on; but where other programs took the processor away from this thread, the thread's
// own time: how long they held it says nothing of the pass. (Waiting for a device or a file is part of a pass.)
class PassTimer {
  public:
    PassTimer();
    double seconds() const;

  private:
    struct Thread {
        double seconds = 0.0;  // of processor time
        long taken_away = 0;   // involuntary context switches
    };
    static Thread thread_now();

    std::chrono::steady_clock::time_point start_;
    Thread thread_start_;
};

}  // namespace trimode
