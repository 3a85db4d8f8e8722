// Where the keys and values of runs that branch off a sequence (Batch::add_run) lie, until one of them is committed.
//
// On the CPU a row's attention adds up within stretches of cells, each of the LANES of a register the cells of its own
// (attention/kernel.h); cells that it does not see add nothing. So it adds up the same numbers in the same order, to
// the bit, if each cell is as far into the lanes as that of its position is, and in the same stretch.
#pragma once

#include <cstdint>
#include <vector>

namespace trimode {

class SidePlaces {
  public:
    // Of a sequence whose places [first, end) are there for a pass, `n_taken` of them for a run that follows it.
    SidePlaces(int32_t first, int n_taken, int32_t end);

    // Takes places for a run of `n` tokens from position `pos` on: the lowest that it can have, or those for the most
    // of its tokens. Returns the first one, and leaves in `n` how many there are: 0 where there is none.
    int32_t take(int32_t pos, int & n);

    // Places from the first one on, up to the last one that is taken.
    int extent() const;

  private:
    int n_free(int32_t place, int most) const;

    int32_t first_;
    std::vector<char> taken_;
};

}  // namespace trimode
