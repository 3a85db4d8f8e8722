#include "speculation/ngram_lookup.h"

#include <algorithm>

namespace trimode {

namespace {

constexpr int MOST_PLACES = 64;  // that are looked at: a pass takes longer than these comparisons

}  // namespace

NgramLookup::NgramLookup(int n_vocab, llama_token mask) : n_vocab_(n_vocab), mask_(mask) {}

void NgramLookup::add(llama_token token) {
    tokens_.push_back(token);
    source_ = -1;
    match_ = 0;
    const int size = static_cast<int>(tokens_.size());
    earlier_.resize(size + 1, -1);
    if (size < MIN_MATCH) {
        return;
    }
    uint64_t key = 0;
    for (int i = size - MIN_MATCH; i < size; ++i) {
        key = (key ^ static_cast<uint64_t>(static_cast<uint32_t>(tokens_[i]))) * 0x9E3779B97F4A7C15ull;
    }
    int & last = places_.try_emplace(key, -1).first->second;
    earlier_[size] = last;
    last = size;
}

void NgramLookup::push(llama_token token) {
    const int followed = source_ >= 0 && tokens_[source_] == token ? source_ + 1 : -1;
    add(token);
    find(followed);
}

// Tokens before `place` that equal those at the end of the text.
int NgramLookup::match_before(int place) const {
    const int size = static_cast<int>(tokens_.size());
    int n = 0;
    while (n < MAX_MATCH && n < place && tokens_[place - 1 - n] == tokens_[size - 1 - n]) {
        ++n;
    }
    return n;
}

// `followed`: the place that went on as drafted, or -1: it may lie behind more others than are looked at.
void NgramLookup::find(int followed) {
    std::vector<int> longest;
    const auto consider = [&](int place) {
        const int n = match_before(place);
        if (n >= MIN_MATCH && n >= match_) {
            if (n > match_) {
                longest.clear();
            }
            match_ = n;
            longest.push_back(place);
        }
    };
    int left = MOST_PLACES;
    for (int place = earlier_.back(); place >= 0 && left > 0; place = earlier_[place], --left) {
        consider(place);
    }
    if (left == 0 && followed >= 0) {
        consider(followed);
    }
    int most = 0;
    for (const int place : longest) {
        const auto same = [&](int other) { return tokens_[other] == tokens_[place]; };
        const int votes = static_cast<int>(std::count_if(longest.begin(), longest.end(), same));
        if (votes > most) {
            most = votes;
            source_ = place;
        }
    }
}

std::vector<llama_token> NgramLookup::draft(int n) const {
    std::vector<llama_token> found;
    const int size = static_cast<int>(tokens_.size());
    while (source_ >= 0 && static_cast<int>(found.size()) < n) {
        const int place = source_ + static_cast<int>(found.size());
        const llama_token token = place < size ? tokens_[place] : found[place - size];
        if (token < 0 || token >= n_vocab_ || token == mask_) {
            break;
        }
        found.push_back(token);
    }
    return found;
}

}  // namespace trimode
