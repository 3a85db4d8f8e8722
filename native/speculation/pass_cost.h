// t(rows): how long a pass takes by its number of rows, learned from the passes that run.
#pragma once

#include <cstdint>
#include <vector>

#include "speculation/learned.h"

namespace trimode {

// The estimate is speed * shape(rows). The speed follows every pass at once (a busy machine, a longer context slow all
// of them down alike), the shape only slowly; so lengths that are rarely used stay comparable with those that are.
class PassCost {
  public:
    // `steps`: numbers of rows to which passes are padded, ascending; up to the last one a pass takes as long as one of
    // the next step.
    explicit PassCost(std::vector<int> steps = {});

    // A pass of `rows` > 0 rows took `seconds` > 0.
    void observe(int rows, double seconds);

    // Estimated seconds of a pass, 0 before the first observation. Never falls with the rows; between lengths that
    // were seen on a straight line, beyond the longest on the last such line.
    double seconds(double rows) const;

    // The same, where no pass of this length is known, as low as it may be: that of the longest shorter one that is.
    double at_least(double rows) const;

    // Passes observed since one of this length was, all of them if none was.
    int64_t age(int rows) const;
    bool known(int rows) const { return buckets_[bucket(padded(rows))].count >= KNOWN; }
    bool alike(int rows, int others) const { return padded(rows) == padded(others); }
    int longest_known() const { return longest_known_; }
    int n_known() const { return n_known_; }  // lengths seen so far

    // What has been measured: rows and estimated seconds, ascending.
    struct Point {
        double rows;
        double seconds;
    };
    std::vector<Point> table() const;

    // Lengths of which enough was seen, for `restore` of another one that has seen nothing yet. There each
    // holds until three passes of it were observed. Throws std::invalid_argument, and changes nothing, for what cannot
    // have been seen.
    std::vector<Learned::Pass> learned() const;
    void restore(const std::vector<Learned::Pass> & passes);

  private:
    static constexpr int KNOWN = 2;  // observations: a single one may be slow for reasons of its own
    static constexpr int LINE = 2;   // known lengths: from so many on, the others are no part of the estimate

    struct Bucket {
        int rows = 0;  // the longest that belongs here
        double mean_rows = 0.0;
        int64_t count = 0;
        int64_t last = 0;    // when it was seen, in passes
        double shape = 0.0;  // seconds at speed 1
        double first[3]{};   // the first observations, at speed 1 ...
        int n_first = 0;     // ... so many of them
    };

    double padded(double rows) const;
    int padded(int rows) const { return static_cast<int>(padded(double(rows))); }

    // Exact up to 64 rows, from there on 8 lengths for each doubling.
    static int bucket(int rows);
    void refit() const;

    std::vector<int> steps_;
    std::vector<Bucket> buckets_;
    double speed_ = 1.0;
    int64_t n_passes_ = 0;
    int n_known_ = 0;
    int longest_known_ = 0;
    mutable std::vector<Point> curve_;  // rising; empty: to be made
};

}  // namespace trimode
