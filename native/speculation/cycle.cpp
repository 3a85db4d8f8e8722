#include "speculation/cycle.h"

#include <stdexcept>

namespace trimode {

Fusing parse_fusing(const std::string & name) {
    if (name == "never") {
        return Fusing::never;
    }
    if (name == "always") {
        return Fusing::always;
    }
    if (name == "measured") {
        return Fusing::measured;
    }
    throw std::invalid_argument("unknown fusing \"" + name + "\"; names: never, always, measured");
}

}  // namespace trimode
