// Decides who takes part in the next pass: slots for queued requests, rows for running ones, cells for both.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "engine/active_request.h"
#include "engine/engine_options.h"
#include "engine/event_queue.h"

namespace trimode {

struct ScheduledRequest {
    ActiveRequest * active;
    int n_rows;
};

// The requests that have rows in a pass.
using Schedule = std::vector<ScheduledRequest>;

class Scheduler {
  public:
    // `exact_rows`: of passes that decode, see EngineOptions; 0: rows as they come. `events`: whose readers are behind.
    Scheduler(const EngineOptions & options, int exact_rows, PrefixCache & prefixes, EventQueue & events)
        : n_batch_(options.n_batch),
          n_ubatch_(options.n_ubatch),
          n_slots_(options.n_parallel),
          exact_rows_(exact_rows),
          prefixes_(prefixes),
          events_(events) {}

    void enqueue(std::unique_ptr<ActiveRequest> active);

    // These two do nothing for a request that is unknown.
    void cancel(int64_t id);   // it is over, with an event to come
    void release(int64_t id);  // it is over and forgotten

    // The rows of the next pass. Requests that have them take cells for them; empty: there is nothing to run.
    Schedule schedule();

    // Takes slot and images of a request that is over; its cells stay for prompts that begin alike.
    void retire(ActiveRequest & active);

    // All that are not released, by id.
    const std::map<int64_t, std::unique_ptr<ActiveRequest>> & requests() const { return requests_; }

    int n_queued() const { return static_cast<int>(queue_.size()); }
    int n_running() const;
    int n_suspended() const { return n_slots_taken() - n_running(); }
    int n_slots_taken() const { return static_cast<int>(running_.size()); }
    bool has_free_slot() const { return n_slots_taken() < n_slots_; }

  private:
    void admit();
    bool start(ActiveRequest & active);
    std::vector<ActiveRequest *> ready() const;
    Schedule share_rows(const std::vector<ActiveRequest *> & ready) const;
    Schedule share_exact_rows(const std::vector<ActiveRequest *> & ready) const;
    void allocate_cells(Schedule & schedule);
    void allocate_or_preempt(ActiveRequest & active, int n_cells);

    int n_batch_;
    int n_ubatch_;
    int n_slots_;
    int exact_rows_;
    PrefixCache & prefixes_;
    EventQueue & events_;
    std::map<int64_t, std::unique_ptr<ActiveRequest>> requests_;
    std::deque<ActiveRequest *> queue_;     // without a slot yet
    std::vector<ActiveRequest *> running_;  // with a slot, the oldest first
    int64_t n_passes_ = 0;
};

}  // namespace trimode
