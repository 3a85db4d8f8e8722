#include "util/process_end.h"

#include <unistd.h>

#include <atomic>
#include <thread>

namespace trimode::ProcessEnd {

namespace {

std::atomic<bool> has_begun{false};
std::atomic<int> calls{0};
std::thread::id finalizer;  // written before has_begun

// Leaves the calls under way for good.
void stay_if_over() {
    if (!has_begun || std::this_thread::get_id() == finalizer) {
        return;
    }
    --calls;
    while (true) {
        pause();
    }
}

}  // namespace

void begin() {
    finalizer = std::this_thread::get_id();
    has_begun = true;
}

bool begun() { return has_begun; }
int n_calls() { return calls; }
void forget_calls() { calls = 0; }

void enter() { ++calls; }

void before_work() { stay_if_over(); }
void before_lock() { stay_if_over(); }
void after_lock() { --calls; }

}  // namespace trimode::ProcessEnd
