// Runs the rows of a schedule through the model as one forward pass, and learns what passes cost.
#pragma once

#include "engine/scheduler.h"
#include "engine/thread_choice.h"
#include "forward/forward.h"
#include "speculation/draft_length.h"

namespace trimode {

class ModelRunner {
  public:
    // `exact_rows`: of passes that decode, see EngineOptions; 0: rows as they come.
    ModelRunner(const EngineOptions & options, int exact_rows, Forward & forward, DraftLength & draft_length);

    // One pass: each decoder plans its rows and consumes their outputs. What goes wrong with one request (a grammar
    // that allows no token) fails that one alone. Throws std::runtime_error when a backend fails.
    void run(const Schedule & schedule);

  private:
    bool plan(const Schedule & schedule);
    void tell_crowd(const Schedule & schedule);
    void consume(const Schedule & schedule);
    void learn(const Schedule & schedule, double seconds);

    int n_threads_prefill_;
    int exact_rows_;
    Forward & forward_;
    Batch batch_;
    ThreadChoice thread_choice_;
    DraftLength & draft_length_;
};

}  // namespace trimode
