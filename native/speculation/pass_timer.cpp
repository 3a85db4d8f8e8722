#include "speculation/pass_timer.h"

#ifdef __linux__
#include <sys/resource.h>
#endif

namespace trimode {

PassTimer::PassTimer() : start_(std::chrono::steady_clock::now()), thread_start_(thread_now()) {}

PassTimer::Thread PassTimer::thread_now() {
    Thread now;
#ifdef RUSAGE_THREAD
    rusage usage{};
    if (getrusage(RUSAGE_THREAD, &usage) == 0) {
        const auto seconds = [](const timeval & t) { return double(t.tv_sec) + 1e-6 * double(t.tv_usec); };
        now = {seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_nivcsw};
    }
#endif
    return now;
}

double PassTimer::seconds() const {
    const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const Thread now = thread_now();
    const double own = now.seconds - thread_start_.seconds;
    return now.taken_away > thread_start_.taken_away && own > 0.0 && own < wall ? own : wall;
}

}  // namespace trimode
