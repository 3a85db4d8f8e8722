// How many threads decode: all, or one where that is as fast, as in models so small that threads wait for each other
// longer than they compute, and on cores that other programs keep busy. Measured on the way, by rows of a pass; what is
// computed does not depend on it.
#pragma once

#include <vector>

namespace trimode {

class ThreadChoice {
  public:
    // `measured`: choose between `n_threads` and one; else it is always n_threads.
    ThreadChoice(int n_threads, bool measured);

    // For a pass of so many rows.
    int choose(int rows) const;

    // That pass took `seconds`, by the clock on the wall.
    void observe(int rows, double seconds);

    // Whether a pass of so many rows runs with the number that is not the choice, to see how long it takes.
    bool trying(int rows) const { return measured_ && bucket(rows).trial; }

  private:
    struct Bucket {
        double all = 0.0, one = 0.0;  // seconds of a pass; 0: not known
        bool use_one = false;
        bool trial = false;
        int n_passes = 0;      // of the stretch under way
        double seconds = 0.0;  // they took
        double waited = 0.0;   // since the last trial
        double growth = 0.0;   // of the interval between trials; 0: short passes are tried at once
        bool started = false;  // the first stretch is over: it brought weights from the disk
    };

    const Bucket & bucket(int rows) const { return buckets_[index(rows)]; }
    static int index(int rows);
    static void end_trial(Bucket & b, double mean);
    void end_stretch(Bucket & b, double mean);

    int n_threads_;
    bool measured_;
    std::vector<Bucket> buckets_;  // by the next power of two
};

}  // namespace trimode
