// The end of the process, as far as threads know of it that Python does not wait for (daemon threads).
//
// When the interpreter is finalized, such a thread must not ask for the GIL any more: Python 3.13 and older end a
// thread that does, which std::terminate answers where C++ is on its stack. So from begin() on a call that comes back
// from work without the GIL stays where it is, and exit() ends its thread.
#pragma once

namespace trimode::ProcessEnd {

// The thread that calls this, the one that finalizes, goes on as before.
void begin();

// For work that takes long: whether it is in vain by now.
bool begun();

// Calls without the GIL that are under way, or that wait for it; those of the thread that finalizes count, too.
int n_calls();

// In a fork, which has none of those threads.
void forget_calls();

void enter();        // a call begins, with the GIL
void before_work();  // it has given the GIL up; stays here when the end has begun
void before_lock();  // it wants the GIL back; stays here when the end has begun
void after_lock();   // it has the GIL

}  // namespace trimode::ProcessEnd
