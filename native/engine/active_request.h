// A request with what the engine keeps for it, from its submission until it is released.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "cache/image_rows.h"
#include "cache/prefix_cache.h"
#include "decoders/decoder.h"

namespace trimode {

struct ActiveRequest {
    Request request;
    std::vector<ImageHandle> images;  // of the prompt: held until the request is over
    std::unique_ptr<Decoder> decoder;
    CachedSequence * sequence = nullptr;  // while it has a slot
    int64_t last_pass = 0;                // in which it had rows; that of its start
    bool took_part = false;               // in the current pass
    bool has_token = false;               // has emitted one
    bool reported = false;                // its last event is out

    bool is_running() const { return sequence && sequence->state == CachedSequence::State::running; }
    bool is_over() const { return request.finish != Finish::none; }

    // Cells that its sequence needs when a pass takes `n` behind what it has.
    int cells_needed(int n) const { return std::min(sequence->size() + n, request.max_length()); }
};

}  // namespace trimode
