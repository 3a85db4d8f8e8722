// What one request has committed to the cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cache/pages.h"
#include "llama.h"

namespace trimode {

// The attention kernel of the rows that wrote a cell (see attention_pieces.h).
enum class Kernel : uint8_t { rows, tiles, unknown };

constexpr int TILE_ROWS = 64;  // GGML_FA_TILE_Q of ggml-cpu

// The kernel for a token of a prompt. A prompt is cut at multiples of the batch size wherever its prefill begins and
// however little of it a pass takes: a prompt found in the cache, or computed in a crowd, gives the same bits.
inline Kernel prefill_kernel(int position, int n_prompt, int n_batch) {
    const int begin = position / n_batch * n_batch;
    return std::min(n_prompt - begin, n_batch) >= TILE_ROWS ? Kernel::tiles : Kernel::rows;
}

// Token i stands at position i. Pages rise; the last ones may be for rows that are not committed yet.
struct Sequence {
    std::vector<llama_token> tokens;
    std::vector<Kernel> kernels;
    std::vector<int32_t> pages;

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
