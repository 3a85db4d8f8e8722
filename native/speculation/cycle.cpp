#include "speculation/cycle.h"

#include "util/names.h"

namespace trimode {

namespace {

constexpr std::array<const char *, 3> FUSINGS = {"never", "always", "measured"};

}  // namespace

Fusing parse_fusing(const std::string & name) { return parse_name<Fusing>(FUSINGS, name, "fusing", "names"); }

const char * name_of(Fusing fusing) { return FUSINGS.at(static_cast<size_t>(fusing)); }

}  // namespace trimode
