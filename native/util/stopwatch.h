#pragma once

#include <chrono>

namespace trimode {

// Adds the time until it goes to `total`.
class Stopwatch {
  public:
    explicit Stopwatch(double & total) : total_(total), start_(std::chrono::steady_clock::now()) {}
    ~Stopwatch() { total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

  private:
    double & total_;
    std::chrono::steady_clock::time_point start_;
};

}  // namespace trimode
