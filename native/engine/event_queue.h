// Between the threads that ask for tokens and the one that steps the engine: events to the former, cancellations to the
// latter.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "decoders/request.h"

namespace trimode {

// What a pass did for one request.
struct Event {
    int64_t request_id;
    std::vector<llama_token> tokens;
    std::vector<llama_token> block;
    std::vector<float> confidence;
    std::vector<llama_token> draft;
    std::vector<PositionLogprobs> logprobs;
    Finish finish;
    std::string error;  // finish failed: why
    Stats stats;        // so far
};

struct QueueFull : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Ids of requests that callers have ended since the last step.
struct Cancellations {
    std::vector<int64_t> cancelled;  // end with an event
    std::vector<int64_t> released;   // end, if they have not yet, and are forgotten
};

class EventQueue {
  public:
    // A new request, whose events go to `channel`. Throws QueueFull when `limit` requests have not ended.
    void open(int64_t id, int64_t channel, int limit);

    void push(std::vector<Event> events);

    // The events that wait in a channel. False: none yet; true without any: none will come. Throws std::runtime_error
    // after close().
    bool take(int64_t channel, std::vector<Event> & events);
    std::vector<Event> take_all();

    // So many events of a stream wait for their reader that its request had better pause.
    bool reader_is_behind(int64_t id);

    // The reader of a request, who keeps events elsewhere, is behind, or no longer. std::invalid_argument for an
    // unknown request.
    void hold(int64_t id, bool held);

    // Kept for whoever steps next. std::invalid_argument for an unknown request.
    void cancel(int64_t id);
    void release(int64_t id);
    Cancellations take_cancellations();

    void close();  // whoever waits gives up
    void wake();

    // wait() returns when anything has changed since changes() was read, at the latest after `seconds`.
    uint64_t changes();
    void wait(uint64_t seen, double seconds);

  private:
    struct Subscription {
        int64_t channel;
        bool ended = false;
        bool held = false;
    };
    struct Channel {
        std::vector<Event> events;
        int n_open = 0;  // requests that have not ended
    };
    Subscription & find(int64_t id);
    void notify();

    std::mutex mutex_;
    std::condition_variable changed_;
    uint64_t changes_ = 0;
    bool closed_ = false;
    int n_open_ = 0;
    std::map<int64_t, Subscription> subscriptions_;
    std::map<int64_t, Channel> channels_;
    Cancellations cancellations_;
};

}  // namespace trimode
