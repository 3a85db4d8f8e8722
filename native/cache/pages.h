// Which cells of the cache are whose: they are handed out in pages, and a page may have several holders.
#pragma once

#include <cstdint>
#include <vector>

namespace trimode {

// Cells in a page, which attention on the CPU converts at a time (BLOCK in attention/kernel.h). A position always has
// the same place in its page, so sums over a page are the same wherever it lies.
constexpr int PAGE_CELLS = 64;

constexpr int pages_for(int n_cells) { return (n_cells + PAGE_CELLS - 1) / PAGE_CELLS; }

class Pages {
  public:
    explicit Pages(int n) : holders_(n, 0), n_free_(n) {}

    int size() const { return static_cast<int>(holders_.size()); }
    int n_free() const { return n_free_; }
    int holders(int32_t page) const { return holders_.at(page); }

    // The lowest free page above `above` (-1: of all), with one holder now; -1 where there is none.
    int32_t take(int32_t above = -1);

    void hold(int32_t page);  // one more holder; std::logic_error for a free page
    void drop(int32_t page);  // one holder less, free at none; std::logic_error for a free page

  private:
    std::vector<int32_t> holders_;
    int n_free_;
    int32_t lowest_free_ = 0;  // none below is free
};

}  // namespace trimode
