#include "engine/mailbox.h"

#include <algorithm>
#include <chrono>

namespace trimode {

namespace {

constexpr size_t MAX_WAITING = 64;  // events; a reader that is further behind slows its own request only

}  // namespace

void Mailbox::open(int64_t id, int64_t channel, int limit) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) {
        throw std::runtime_error("this TriMode is closed");
    }
    if (n_open_ >= limit) {
        throw QueueFull("the queue is full: " + std::to_string(n_open_) +
                        " requests run or wait; try again later, or with a larger max_queue");
    }
    tickets_[id] = {channel};
    ++channels_[channel].n_open;
    ++n_open_;
}

void Mailbox::deliver(std::vector<Event> events) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Event & event : events) {
        const auto ticket = tickets_.find(event.request_id);
        if (ticket == tickets_.end() || ticket->second.ended) {
            continue;
        }
        Channel & channel = channels_[ticket->second.channel];
        if (event.finish != Finish::none) {
            ticket->second.ended = true;
            --channel.n_open;
            --n_open_;
        }
        channel.events.push_back(std::move(event));
    }
    ++changes_;
}

bool Mailbox::take(int64_t id, std::vector<Event> & events) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) {
        throw std::runtime_error("this TriMode is closed");
    }
    const auto channel = channels_.find(id);
    if (channel == channels_.end()) {
        return true;
    }
    const size_t n = channel->second.events.size();
    events.swap(channel->second.events);
    const bool over = channel->second.n_open == 0;
    if (over) {
        channels_.erase(channel);
    }
    if (n >= MAX_WAITING) {
        change();  // its requests go on
    }
    return n > 0 || over;
}

std::vector<Event> Mailbox::take_all() {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<Event> all;
    for (auto channel = channels_.begin(); channel != channels_.end();) {
        std::vector<Event> & events = channel->second.events;
        std::move(events.begin(), events.end(), std::back_inserter(all));
        events.clear();
        channel = channel->second.n_open == 0 ? channels_.erase(channel) : std::next(channel);
    }
    return all;
}

bool Mailbox::is_behind(int64_t id) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto ticket = tickets_.find(id);
    return ticket != tickets_.end() &&
           (ticket->second.held || channels_[ticket->second.channel].events.size() >= MAX_WAITING);
}

void Mailbox::hold(int64_t id, bool held) {
    const std::lock_guard<std::mutex> lock(mutex_);
    find(id).held = held;
    if (!held) {
        change();
    }
}

Mailbox::Ticket & Mailbox::find(int64_t id) {
    const auto found = tickets_.find(id);
    if (found == tickets_.end()) {
        throw std::invalid_argument("no request " + std::to_string(id));
    }
    return found->second;
}

void Mailbox::cancel(int64_t id) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!find(id).ended) {
        wishes_.cancelled.push_back(id);
        change();
    }
}

void Mailbox::forget(int64_t id) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Ticket & ticket = find(id);
    Channel & channel = channels_[ticket.channel];
    const auto mine = [&](const Event & event) { return event.request_id == id; };
    channel.events.erase(std::remove_if(channel.events.begin(), channel.events.end(), mine), channel.events.end());
    if (!ticket.ended) {
        --channel.n_open;
        --n_open_;
    }
    if (channel.n_open == 0 && channel.events.empty()) {
        channels_.erase(ticket.channel);
    }
    tickets_.erase(id);
    wishes_.forgotten.push_back(id);
    change();
}

Mailbox::Wishes Mailbox::wishes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    Wishes taken;
    std::swap(taken, wishes_);
    return taken;
}

void Mailbox::close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    change();
}

void Mailbox::wake() {
    const std::lock_guard<std::mutex> lock(mutex_);
    change();
}

void Mailbox::change() {
    ++changes_;
    changed_.notify_all();
}

uint64_t Mailbox::changes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return changes_;
}

void Mailbox::wait(uint64_t seen, double seconds) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return changes_ != seen; });
}

}  // namespace trimode
