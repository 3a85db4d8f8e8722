#include "cache/prefix_cache.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace trimode {

namespace {

using State = CachedSequence::State;

constexpr int MOVE_SHARE = 8;  // a sequence that moves shall find 1 / MOVE_SHARE of the cache free: it moves seldom

int common_prefix(const std::vector<llama_token> & a, const std::vector<llama_token> & b) {
    const size_t n = std::min(a.size(), b.size());
    return static_cast<int>(std::mismatch(a.begin(), a.begin() + n, b.begin()).first - a.begin());
}

// Whether b begins with all of a.
bool is_beginning(const CachedSequence & a, const CachedSequence & b) {
    return a.scope == b.scope && a.lora_scales == b.lora_scales && a.size() <= b.size() && a.n_whole <= b.n_whole &&
           std::equal(a.tokens.begin(), a.tokens.end(), b.tokens.begin());
}

}  // namespace

// Multiples of a page too: what is shared then needs no copy of a part of one, for which there may be no room.
void PrefixCache::set_whole_batches(int n_batch) { whole_ = std::lcm(n_batch, PAGE_CELLS); }

// Of a sequence that a prompt may begin with; its last token is left out.
int PrefixCache::reusable(const CachedSequence & source, const std::vector<llama_token> & prompt) const {
    const int common = std::min(common_prefix(source.tokens, prompt), static_cast<int>(prompt.size()) - 1);
    return whole_ == 0 ? common : std::min(common, source.n_whole) / whole_ * whole_;
}

// Pages that are free, or will be when idle sequences go; `kept` of the first pages of a sequence count as held.
int PrefixCache::n_available(int32_t kept_pages, const CachedSequence * kept) const {
    std::vector<bool> held(pages_.size(), false);
    int n = pages_.size();
    const auto hold = [&](const CachedSequence & sequence, size_t count) {
        for (size_t i = 0; i < count; ++i) {
            n -= !held[sequence.pages[i]];
            held[sequence.pages[i]] = true;
        }
    };
    for (const CachedSequence & sequence : sequences_) {
        if (sequence.state == State::running || sequence.pinned) {
            hold(sequence, sequence.pages.size());
        }
    }
    if (kept) {
        hold(*kept, kept_pages);
    }
    return n;
}

int PrefixCache::n_idle() const { return n_available(0, nullptr) - pages_.n_free(); }

// Takes the last page of the least recently used idle sequence; false when there is none to take from.
bool PrefixCache::evict() {
    CachedSequence * oldest = nullptr;
    for (CachedSequence & sequence : sequences_) {
        if (sequence.state == State::idle && !sequence.pinned && (!oldest || sequence.last_used < oldest->last_used)) {
            oldest = &sequence;
        }
    }
    if (!oldest) {
        return false;
    }
    truncate(*oldest, (static_cast<int>(oldest->pages.size()) - 1) * PAGE_CELLS);
    if (oldest->size() == 0) {
        erase(oldest);
    }
    return true;
}

bool PrefixCache::make_room(int n_free) {
    while (pages_.n_free() < n_free) {
        if (!evict()) {
            return false;
        }
    }
    return true;
}

void PrefixCache::truncate(CachedSequence & sequence, int n) {
    while (static_cast<int>(sequence.pages.size()) > pages_for(n)) {
        pages_.drop(sequence.pages.back());
        sequence.pages.pop_back();
    }
    sequence.tokens.resize(std::min(n, sequence.size()));
}

void PrefixCache::erase(const CachedSequence * sequence) {
    sequences_.remove_if([&](const CachedSequence & s) { return &s == sequence; });
}

CachedSequence * PrefixCache::acquire(const std::vector<llama_token> & prompt, int n_room, bool force,
                                      const std::vector<float> & lora_scales, uint64_t scope) {
    CachedSequence * source = nullptr;
    int n = 0;
    for (CachedSequence & sequence : sequences_) {
        const bool is_alike = sequence.scope == scope && sequence.lora_scales == lora_scales;
        const bool is_there = is_alike && sequence.state != State::suspended;
        const int common = is_there ? reusable(sequence, prompt) : 0;
        if (common > n) {
            source = &sequence;
            n = common;
        }
    }
    const int n_whole = n / PAGE_CELLS;
    const int n_new = pages_for(std::max(n_room, n)) - n_whole;
    if (n_available(n_whole, source) < n_new) {
        if (!force) {
            return nullptr;
        }
        unpin();
    }
    CachedSequence & made = sequences_.emplace_back();
    made.scope = scope;
    made.lora_scales = lora_scales;
    made.last_used = ++clock_;
    made.n_whole = whole_ == 0 ? 0 : std::max(static_cast<int>(prompt.size()) - 1, 0) / whole_ * whole_;
    if (source) {
        source->last_used = made.last_used;
        share(*source, made, n);
    }
    if (!extend(made, n_room)) {
        suspend(made);
        if (!resume(made, n_room, force)) {
            erase(&made);
            return nullptr;
        }
    }
    return &made;
}

// Gives the first n tokens of `source` to the new `sequence` too, or whole pages of them where the rest has no place.
void PrefixCache::share(CachedSequence & source, CachedSequence & sequence, int n) {
    const int n_pages = pages_for(n);
    sequence.tokens.assign(source.tokens.begin(), source.tokens.begin() + n);
    sequence.pages.assign(source.pages.begin(), source.pages.begin() + n_pages);
    for (const int32_t page : sequence.pages) {
        pages_.hold(page);
    }
    // Little is lost with a sequence that goes on: it is taken over as it is.
    if (source.state == State::idle && !source.pinned && source.size() - n <= PAGE_CELLS) {
        truncate(source, 0);
        erase(&source);
    }
    if (n % PAGE_CELLS != 0) {
        make_room(1);  // may drop `source`
        if (pages_.holders(sequence.pages.back()) > 1) {
            copy_last_page(sequence);
        }
    }
}

// In place of a partial page that others hold too: new cells would overwrite theirs.
void PrefixCache::copy_last_page(CachedSequence & sequence) {
    const int n = sequence.size();
    const int n_whole = n / PAGE_CELLS;
    const int32_t shared = sequence.pages.back();
    const int32_t page = pages_.take(n_whole > 0 ? sequence.pages[n_whole - 1] : -1);
    if (page < 0) {
        truncate(sequence, n_whole * PAGE_CELLS);
        return;
    }
    std::vector<uint8_t> k(size_t(n % PAGE_CELLS) * cache_.n_layer() * cache_.k_bytes());
    std::vector<uint8_t> v(size_t(n % PAGE_CELLS) * cache_.n_layer() * cache_.v_bytes());
    cache_.read(sequence.cells(n_whole * PAGE_CELLS, n), k.data(), v.data());
    sequence.pages.back() = page;
    cache_.write(sequence.cells(n_whole * PAGE_CELLS, n), k.data(), v.data());
    pages_.drop(shared);
}

// Takes pages behind those that the sequence has; false where there are none, be there some before them.
bool PrefixCache::extend(CachedSequence & sequence, int n) {
    make_room(pages_for(n) - static_cast<int>(sequence.pages.size()));
    while (sequence.room() < n) {
        const int32_t page = pages_.take(sequence.pages.empty() ? -1 : sequence.pages.back());
        if (page < 0) {
            return false;
        }
        sequence.pages.push_back(page);
    }
    return true;
}

bool PrefixCache::grow(CachedSequence & sequence, int n) {
    if (sequence.room() >= n || extend(sequence, n)) {
        return true;
    }
    make_room(pages_.size() / MOVE_SHARE);
    suspend(sequence);
    return resume(sequence, n);
}

void PrefixCache::suspend(CachedSequence & sequence) {
    const size_t n = size_t(sequence.size()) * cache_.n_layer();
    sequence.k.resize(n * cache_.k_bytes());
    sequence.v.resize(n * cache_.v_bytes());
    cache_.read(sequence.cells(0, sequence.size()), sequence.k.data(), sequence.v.data());
    for (const int32_t page : sequence.pages) {
        pages_.drop(page);
    }
    sequence.pages.clear();
    sequence.state = State::suspended;
}

bool PrefixCache::resume(CachedSequence & sequence, int n, bool force) {
    const int n_pages = pages_for(std::max(n, sequence.size()));
    if (force && n_available(0, nullptr) < n_pages) {
        unpin();
    }
    if (n_available(0, nullptr) < n_pages) {
        return false;
    }
    make_room(n_pages);
    while (static_cast<int>(sequence.pages.size()) < n_pages) {
        sequence.pages.push_back(pages_.take());  // the lowest first: they rise
    }
    cache_.write(sequence.cells(0, sequence.size()), sequence.k.data(), sequence.v.data());
    sequence.k = {};
    sequence.v = {};
    sequence.state = State::running;
    return true;
}

void PrefixCache::finish(CachedSequence * sequence, int n, bool pinned) {
    if (sequence->state == State::suspended) {  // not worth the way back
        erase(sequence);
        return;
    }
    truncate(*sequence, std::min(n, sequence->size()));
    sequence->state = State::idle;
    sequence->pinned = pinned;
    sequence->last_used = ++clock_;
    // One of two that say the same goes.
    for (auto other = sequences_.begin(); other != sequences_.end();) {
        const bool apart = &*other == sequence || other->state != State::idle;
        if (!apart && !other->pinned && is_beginning(*other, *sequence)) {
            truncate(*other, 0);
            other = sequences_.erase(other);
        } else if (!apart && !pinned && is_beginning(*sequence, *other)) {
            other->last_used = sequence->last_used;
            truncate(*sequence, 0);
            break;
        } else {
            ++other;
        }
    }
    if (sequence->size() == 0) {
        erase(sequence);
    }
}

void PrefixCache::clear() {
    unpin();
    while (evict()) {
    }
}

void PrefixCache::unpin() {
    for (CachedSequence & sequence : sequences_) {
        sequence.pinned = false;
    }
}

const CachedSequence * PrefixCache::find_idle(const std::vector<llama_token> & tokens,
                                              const std::vector<float> & lora_scales, int & n_common) const {
    const CachedSequence * best = nullptr;
    n_common = 0;
    for (const CachedSequence & sequence : sequences_) {
        const bool is_alike = sequence.scope == 0 && sequence.lora_scales == lora_scales;
        const bool is_there = is_alike && sequence.state == State::idle;
        const int common = is_there ? common_prefix(sequence.tokens, tokens) : 0;
        if (common > n_common) {
            best = &sequence;
            n_common = common;
        }
    }
    return best;
}

CachedSequence * PrefixCache::add_idle(const std::vector<llama_token> & tokens,
                                       const std::vector<float> & lora_scales) {
    const int n = static_cast<int>(tokens.size());
    if (n_available(0, nullptr) < pages_for(n)) {
        return nullptr;
    }
    CachedSequence & made = sequences_.emplace_back();
    extend(made, n);
    made.lora_scales = lora_scales;
    made.tokens = tokens;
    made.state = State::idle;
    made.last_used = ++clock_;
    return &made;
}

}  // namespace trimode
