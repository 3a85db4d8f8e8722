// What one request has committed to the cache.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/pages.h"
#include "llama.h"

namespace trimode {

// Token i stands at position i. Pages rise; the last ones may be for rows that are not committed yet.
struct Sequence {
    std::vector<llama_token> tokens;
    std::vector<int32_t> pages;
    std::vector<float> lora_scales;  // of the model's adapters, under which its keys and values are; none: all 0

    int size() const { return static_cast<int>(tokens.size()); }
    int room() const { return static_cast<int>(pages.size()) * PAGE_CELLS; }
    int32_t cell(int position) const { return pages[position / PAGE_CELLS] * PAGE_CELLS + position % PAGE_CELLS; }
    std::vector<int32_t> cells(int begin, int end) const {
        std::vector<int32_t> result;
        for (int i = begin; i < end; ++i) {
            result.push_back(cell(i));
        }
        return result;
    }
};

}  // namespace trimode
