#include "engine/event_queue.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace trimode {

namespace {

constexpr size_t MAX_WAITING = 64;  // events; a reader that is further behind slows its own request only

}  // namespace

void EventQueue::open(int64_t id, int64_t channel, int limit) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) {
        throw std::runtime_error("this TriMode is closed");
    }
    if (n_open_ >= limit) {
        throw QueueFull("the queue is full: " + std::to_string(n_open_) +
                        " requests run or wait; try again later, or with a larger max_queue");
    }
    subscriptions_[id] = {channel};
    ++channels_[channel].n_open;
    ++n_open_;
}

void EventQueue::push(std::vector<Event> events) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Event & event : events) {
        const auto subscription = subscriptions_.find(event.request_id);
        if (subscription == subscriptions_.end() || subscription->second.ended) {
            continue;
        }
        Channel & channel = channels_[subscription->second.channel];
        if (event.finish != Finish::none) {
            subscription->second.ended = true;
            --channel.n_open;
            --n_open_;
        }
        channel.events.push_back(std::move(event));
    }
    ++changes_;
}

bool EventQueue::take(int64_t id, std::vector<Event> & events) {
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
        notify();  // its requests go on
    }
    return n > 0 || over;
}

std::vector<Event> EventQueue::take_all() {
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

bool EventQueue::reader_is_behind(int64_t id) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = subscriptions_.find(id);
    return found != subscriptions_.end() &&
           (found->second.held || channels_[found->second.channel].events.size() >= MAX_WAITING);
}

void EventQueue::hold(int64_t id, bool held) {
    const std::lock_guard<std::mutex> lock(mutex_);
    find(id).held = held;
    if (!held) {
        notify();
    }
}

EventQueue::Subscription & EventQueue::find(int64_t id) {
    const auto found = subscriptions_.find(id);
    if (found == subscriptions_.end()) {
        throw std::invalid_argument("no request " + std::to_string(id));
    }
    return found->second;
}

void EventQueue::cancel(int64_t id) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!find(id).ended) {
        cancellations_.cancelled.push_back(id);
        notify();
    }
}

void EventQueue::release(int64_t id) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Subscription & subscription = find(id);
    Channel & channel = channels_[subscription.channel];
    const auto mine = [&](const Event & event) { return event.request_id == id; };
    channel.events.erase(std::remove_if(channel.events.begin(), channel.events.end(), mine), channel.events.end());
    if (!subscription.ended) {
        --channel.n_open;
        --n_open_;
    }
    if (channel.n_open == 0 && channel.events.empty()) {
        channels_.erase(subscription.channel);
    }
    subscriptions_.erase(id);
    cancellations_.released.push_back(id);
    notify();
}

Cancellations EventQueue::take_cancellations() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(cancellations_, {});
}

void EventQueue::close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    notify();
}

void EventQueue::wake() {
    const std::lock_guard<std::mutex> lock(mutex_);
    notify();
}

void EventQueue::notify() {
    ++changes_;
    changed_.notify_all();
}

uint64_t EventQueue::changes() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return changes_;
}

void EventQueue::wait(uint64_t seen, double seconds) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return changes_ != seen; });
}

}  // namespace trimode
