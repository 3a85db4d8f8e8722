// Stop strings over the bytes of the output, across token boundaries.
#pragma once

#include <string>
#include <vector>

namespace trimode {

class StopStrings {
  public:
    // Throws std::invalid_argument for an empty string.
    explicit StopStrings(std::vector<std::string> strings);

    // The bytes of the next token. True when they complete a stop string.
    bool push(const std::string & piece);

    bool empty() const { return strings_.empty(); }

  private:
    std::vector<std::string> strings_;
    size_t longest_ = 0;
    std::string tail_;  // the last bytes of the output, one fewer than the longest string has
};

}  // namespace trimode
