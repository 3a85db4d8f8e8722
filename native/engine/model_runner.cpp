#include "engine/model_runner.h"

#include "speculation/pass_timer.h"
#include "util/stopwatch.h"

namespace trimode {

ModelRunner::ModelRunner(const EngineOptions & options, int exact_rows, Forward & forward, DraftLength & draft_length)
    : n_threads_prefill_(options.n_threads_batch > 0 ? options.n_threads_batch : options.n_threads),
      exact_rows_(exact_rows),
      forward_(forward),
      batch_(options.n_batch),
      thread_choice_(options.n_threads, options.fewer_threads),
      draft_length_(draft_length) {}

void ModelRunner::run(const Schedule & schedule) {
    if (schedule.empty()) {
        return;
    }
    const PassTimer timer;
    const double build_before = forward_.times().build;
    const bool prefill = plan(schedule);
    forward_.use_threads(prefill ? n_threads_prefill_ : thread_choice_.choose(batch_.size()));
    double run_seconds = 0.0;
    {
        const Stopwatch watch(run_seconds);
        forward_.run(batch_);
    }
    tell_crowd(schedule);
    consume(schedule);
    if (!prefill) {
        const double build_seconds = forward_.times().build - build_before;
        const bool trial = thread_choice_.trying(batch_.size());
        thread_choice_.observe(batch_.size(), run_seconds - build_seconds);
        learn(schedule, trial || !forward_.settled() ? 0.0 : timer.seconds() - build_seconds);
    }
    batch_.clear();
}

// Fills the batch; true if it has rows of prompts.
bool ModelRunner::plan(const Schedule & schedule) {
    batch_.clear();
    batch_.set_exact_rows(schedule.front().active->decoder->prefilling() ? 0 : exact_rows_);
    bool prefill = false;
    for (const ScheduledRequest & scheduled : schedule) {
        Decoder & decoder = *scheduled.active->decoder;
        decoder.plan(batch_, scheduled.n_rows);
        prefill = prefill || decoder.planned_prefill();
    }
    return prefill;
}

void ModelRunner::consume(const Schedule & schedule) {
    for (const ScheduledRequest & scheduled : schedule) {
        ActiveRequest & active = *scheduled.active;
        try {
            active.decoder->consume(batch_, forward_);
        } catch (const std::exception & e) {
            active.request.finish = Finish::failed;
            active.request.error = e.what();
        }
        active.took_part = true;
    }
}

// Who decodes in the next pass, for the choices that are made now.
void ModelRunner::tell_crowd(const Schedule & schedule) {
    int n_choosing = 0, n_new = 0, n_fixed = 0;
    for (const auto & [active, n_rows] : schedule) {
        if (active->decoder->prefilling_behind(n_rows)) {
            continue;
        }
        const bool chooses = active->request.options.chooses_cycles();
        n_choosing += chooses;
        n_new += chooses && active->decoder->prefilling();
        n_fixed += !chooses;
    }
    draft_length_.expect_crowd(n_choosing, n_new, n_fixed);
}

// What the choice of the draft length needs to know: passes without prompts, and how many share them. `seconds` 0: not
// to be counted.
void ModelRunner::learn(const Schedule & schedule, double seconds) {
    DraftLength::Brought choosing, fixed;
    for (const auto & [active, n_rows] : schedule) {
        DraftLength::Brought & brought = active->request.options.chooses_cycles() ? choosing : fixed;
        ++brought.n_requests;
        brought.rows += n_rows;
        brought.tokens += static_cast<int>(active->request.emitted.size());
    }
    draft_length_.observe_pass(batch_.size(), seconds, /*chosen=*/choosing.n_requests > 0);
    draft_length_.observe_crowd(choosing, fixed);
}

}  // namespace trimode
