// Who takes part in a pass: slots for the queue, rows by turns, cells for both.
#include <algorithm>

#include "engine/engine.h"

namespace trimode {

// Requests that have come, and those that shall go.
void Engine::take_wishes() {
    {
        const std::lock_guard<std::mutex> lock(inbox_mutex_);
        for (std::unique_ptr<Active> & active : inbox_) {
            queue_.push_back(active.get());
            requests_[active->request.id] = std::move(active);
        }
        inbox_.clear();
    }
    const Mailbox::Wishes wishes = mailbox_.wishes();
    for (const int64_t id : wishes.cancelled) {
        const auto found = requests_.find(id);
        if (found != requests_.end() && !found->second->is_over()) {
            found->second->request.finish = Finish::cancelled;
        }
    }
    for (const int64_t id : wishes.forgotten) {
        const auto found = requests_.find(id);
        if (found != requests_.end()) {
            end(*found->second);
            requests_.erase(found);
        }
    }
}

// Slots and cells: first for requests that had to pause, then for the next in the queue.
void Engine::admit() {
    const bool all_pause = std::none_of(running_.begin(), running_.end(), [](Active * a) { return a->is_running(); });
    for (Active * active : running_) {
        const bool force = all_pause && active == running_.front();
        if (!active->is_running() && !sequences_.resume(*active->sequence, active->needed(1), force)) {
            return;
        }
    }
    while (!queue_.empty() && static_cast<int>(running_.size()) < options_.n_parallel) {
        if (!queue_.front()->is_over() && !start(*queue_.front())) {
            return;
        }
        queue_.pop_front();
    }
}

bool Engine::start(Active & active) {
    Request & request = active.request;
    const int n_prompt = static_cast<int>(request.prompt.size());
    const int n_room = std::min(request.max_length(), n_prompt + std::max(request.options.block_length, 1));
    active.sequence = sequences_.begin({request.prompt, n_room}, /*force=*/running_.empty());
    if (!active.sequence) {
        return false;
    }
    request.sequence = active.sequence;
    request.stats.cached_tokens = active.sequence->size();
    active.last_pass = pass_;
    running_.push_back(&active);
    return true;
}

int Engine::Active::needed(int n_rows) const { return std::min(sequence->size() + n_rows, request.max_length()); }

// The running requests that may have rows, those first that have waited longest. One whose reader is far behind waits
// for it, unless nothing else could go on.
std::vector<Engine::Active *> Engine::ready() {
    std::vector<Active *> ready, behind;
    for (Active * active : running_) {
        if (active->is_running() && !active->is_over()) {
            (mailbox_.is_behind(active->request.id) ? behind : ready).push_back(active);
        }
    }
    if (ready.empty() && (!queue_.empty() || behind.size() < running_.size())) {
        ready.swap(behind);
    }
    std::stable_sort(ready.begin(), ready.end(),
                     [](const Active * a, const Active * b) { return a->last_pass < b->last_pass; });
    return ready;
}

// Who has rows in this pass. The first always has, and those that have go to the end of the order: nobody is left out
// of n_parallel passes in a row.
std::vector<Engine::Turn> Engine::turns() {
    const std::vector<Active *> ready = this->ready();
    if (exact_rows() > 0 && !ready.empty()) {
        return exact_turns(ready);
    }
    const bool decoding =
        std::any_of(ready.begin(), ready.end(), [](const Active * a) { return !a->decoder->prefilling(); });
    int room = options_.n_batch;
    int prompt_room = decoding ? std::min(options_.n_ubatch, room) : room;
    std::vector<Turn> turns;
    for (Active * active : ready) {
        int n_rows = active->decoder->next_rows();
        if (active->decoder->prefilling()) {
            n_rows = std::min({n_rows, prompt_room, room});
            prompt_room -= n_rows;
        } else if (n_rows > room) {
            continue;
        }
        if (n_rows > 0) {
            room -= n_rows;
            turns.push_back({active, n_rows});
        }
    }
    return turns;
}

// The first, with those that decode beside it if it does; a block that is longer than exact passes has one of its own.
std::vector<Engine::Turn> Engine::exact_turns(const std::vector<Active *> & ready) const {
    std::vector<Turn> turns{{ready.front(), ready.front()->decoder->next_rows()}};
    if (ready.front()->decoder->prefilling()) {
        return turns;
    }
    int room = exact_rows() - turns.front().n_rows;
    for (auto active = ready.begin() + 1; active != ready.end(); ++active) {
        const Decoder & decoder = *(*active)->decoder;
        if (const int n_rows = decoder.next_rows(); !decoder.prefilling() && n_rows <= room) {
            room -= n_rows;
            turns.push_back({*active, n_rows});
        }
    }
    return turns;
}

// The oldest first. Where cells are missing, the youngest pause: the oldest always goes on.
void Engine::secure_cells(std::vector<Turn> & turns) {
    for (Active * active : running_) {
        const auto turn =
            std::find_if(turns.begin(), turns.end(), [&](const Turn & turn) { return turn.active == active; });
        if (turn != turns.end() && active->is_running()) {
            grow(*active, active->needed(turn->n_rows));
        }
    }
    const auto paused = [](const Turn & turn) { return !turn.active->is_running(); };
    turns.erase(std::remove_if(turns.begin(), turns.end(), paused), turns.end());
}

bool Engine::grow(Active & active, int n) {
    if (sequences_.grow(*active.sequence, n)) {
        return true;
    }
    for (auto other = running_.rbegin(); *other != &active; ++other) {
        if ((*other)->is_running()) {
            sequences_.suspend(*(*other)->sequence);
            if (sequences_.resume(*active.sequence, n)) {
                return true;
            }
        }
    }
    if (running_.front() == &active) {
        return sequences_.resume(*active.sequence, n, /*force=*/true);
    }
    return false;
}

}  // namespace trimode
