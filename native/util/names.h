// Enumerations whose values have names.
#pragma once

#include <array>
#include <stdexcept>
#include <string>

namespace trimode {

// The value with a name; `names` are in the order of the values. Throws std::invalid_argument: unknown `what` "name";
// `plural`: all of them.
template <typename Enum, size_t N>
Enum parse_name(const std::array<const char *, N> & names, const std::string & name, const char * what,
                const char * plural) {
    std::string all;
    for (size_t i = 0; i < N; ++i) {
        if (name == names[i]) {
            return static_cast<Enum>(i);
        }
        all += (i > 0 ? ", " : "") + std::string(names[i]);
    }
    throw std::invalid_argument(std::string("unknown ") + what + " \"" + name + "\"; " + plural + ": " + all);
}

}  // namespace trimode
