#include "engine/scheduler.h"

#include <algorithm>

namespace trimode {

void Scheduler::enqueue(std::unique_ptr<ActiveRequest> active) {
    queue_.push_back(active.get());
    requests_[active->request.id] = std::move(active);
}

void Scheduler::cancel(int64_t id) {
    const auto found = requests_.find(id);
    if (found != requests_.end() && !found->second->is_over()) {
        found->second->request.finish = Finish::cancelled;
    }
}

void Scheduler::release(int64_t id) {
    const auto found = requests_.find(id);
    if (found != requests_.end()) {
        retire(*found->second);
        requests_.erase(found);
    }
}

Schedule Scheduler::schedule() {
    admit();
    const std::vector<ActiveRequest *> ready = this->ready();
    Schedule schedule = exact_rows_ > 0 && !ready.empty() ? share_exact_rows(ready) : share_rows(ready);
    allocate_cells(schedule);
    if (!schedule.empty()) {
        ++n_passes_;
    }
    for (const ScheduledRequest & scheduled : schedule) {
        scheduled.active->last_pass = n_passes_;
    }
    return schedule;
}

// Slots and cells: first for requests that were suspended, then for the next in the queue.
void Scheduler::admit() {
    const bool force = n_running() == 0;
    for (ActiveRequest * active : running_) {
        if (!active->is_running() &&
            !prefixes_.resume(*active->sequence, active->cells_needed(1), force && active == running_.front())) {
            return;
        }
    }
    while (!queue_.empty() && has_free_slot()) {
        if (!queue_.front()->is_over() && !start(*queue_.front())) {
            return;
        }
        queue_.pop_front();
    }
}

bool Scheduler::start(ActiveRequest & active) {
    Request & request = active.request;
    const int n_prompt = static_cast<int>(request.prompt.size());
    const int n_room = std::min(request.max_length(), n_prompt + std::max(request.options.block_length, 1));
    active.sequence = prefixes_.acquire(request.prompt, n_room, /*force=*/running_.empty(), request.options.lora_scales,
                                        request.options.cache_scope);
    if (!active.sequence) {
        return false;
    }
    request.sequence = active.sequence;
    request.stats.cached_tokens = active.sequence->size();
    active.last_pass = n_passes_;
    running_.push_back(&active);
    return true;
}

// Running requests eligible for this pass, longest-waiting first. One whose reader is far behind waits for it, unless
// nothing else could go on.
std::vector<ActiveRequest *> Scheduler::ready() const {
    std::vector<ActiveRequest *> ready, behind;
    for (ActiveRequest * active : running_) {
        if (active->is_running() && !active->is_over()) {
            (events_.reader_is_behind(active->request.id) ? behind : ready).push_back(active);
        }
    }
    if (ready.empty() && (!queue_.empty() || behind.size() < running_.size())) {
        ready.swap(behind);
    }
    std::stable_sort(ready.begin(), ready.end(),
                     [](const ActiveRequest * a, const ActiveRequest * b) { return a->last_pass < b->last_pass; });
    return ready;
}

// The first always has rows, and those that have go to the end of the order: nobody is left out of n_parallel passes in
// a row. While any request decodes, prompts get n_ubatch rows together.
Schedule Scheduler::share_rows(const std::vector<ActiveRequest *> & ready) const {
    const bool decoding =
        std::any_of(ready.begin(), ready.end(), [](const ActiveRequest * a) { return !a->decoder->prefilling(); });
    int room = n_batch_;
    int prompt_room = decoding ? std::min(n_ubatch_, room) : room;
    Schedule schedule;
    for (ActiveRequest * active : ready) {
        int n_rows = active->decoder->next_rows();
        if (active->decoder->prefilling()) {
            n_rows = std::min({n_rows, prompt_room, room});
            prompt_room -= n_rows;
        } else if (n_rows > room) {
            continue;
        }
        if (n_rows > 0) {
            room -= n_rows;
            schedule.push_back({active, n_rows});
        }
    }
    return schedule;
}

// The first, with those that decode beside it if it does; a block that is longer than exact passes has one of its own.
Schedule Scheduler::share_exact_rows(const std::vector<ActiveRequest *> & ready) const {
    Schedule schedule{{ready.front(), ready.front()->decoder->next_rows()}};
    if (ready.front()->decoder->prefilling()) {
        return schedule;
    }
    int room = exact_rows_ - schedule.front().n_rows;
    for (auto active = ready.begin() + 1; active != ready.end(); ++active) {
        const Decoder & decoder = *(*active)->decoder;
        if (const int n_rows = decoder.next_rows(); !decoder.prefilling() && n_rows <= room) {
            room -= n_rows;
            schedule.push_back({*active, n_rows});
        }
    }
    return schedule;
}

// Cells for the rows of the pass, the oldest request's first. Requests that were preempted meanwhile leave the
// schedule.
void Scheduler::allocate_cells(Schedule & schedule) {
    for (ActiveRequest * active : running_) {
        const auto scheduled = std::find_if(schedule.begin(), schedule.end(),
                                            [&](const ScheduledRequest & s) { return s.active == active; });
        if (scheduled != schedule.end() && active->is_running()) {
            allocate_or_preempt(*active, active->cells_needed(active->decoder->next_cells(scheduled->n_rows)));
        }
    }
    const auto suspended = [](const ScheduledRequest & s) { return !s.active->is_running(); };
    schedule.erase(std::remove_if(schedule.begin(), schedule.end(), suspended), schedule.end());
}

// Where cells are missing, the youngest requests are suspended, this one last: the oldest always goes on.
void Scheduler::allocate_or_preempt(ActiveRequest & active, int n_cells) {
    if (prefixes_.grow(*active.sequence, n_cells)) {
        return;
    }
    for (auto other = running_.rbegin(); *other != &active; ++other) {
        if ((*other)->is_running()) {
            prefixes_.suspend(*(*other)->sequence);
            if (prefixes_.resume(*active.sequence, n_cells)) {
                return;
            }
        }
    }
    if (running_.front() == &active) {
        prefixes_.resume(*active.sequence, n_cells, /*force=*/true);
    }
}

void Scheduler::retire(ActiveRequest & active) {
    queue_.erase(std::remove(queue_.begin(), queue_.end(), &active), queue_.end());
    active.images.clear();
    if (!active.sequence) {
        return;
    }
    Request & request = active.request;
    const bool keep = request.options.keep && request.finish == Finish::length;
    const int n = keep ? static_cast<int>(request.prompt.size()) : active.sequence->size();
    prefixes_.finish(active.sequence, n, keep);
    active.sequence = nullptr;
    request.sequence = nullptr;
    running_.erase(std::remove(running_.begin(), running_.end(), &active), running_.end());
}

int Scheduler::n_running() const {
    return static_cast<int>(
        std::count_if(running_.begin(), running_.end(), [](const ActiveRequest * a) { return a->is_running(); }));
}

}  // namespace trimode
