#include "decoders/request.h"

#include "util/names.h"

namespace trimode {

namespace {

constexpr std::array<const char *, 3> MODES = {"ar", "diffusion", "self-spec"};
constexpr std::array<const char *, 3> ORDERS = {"confidence", "leftmost", "margin"};
constexpr std::array<const char *, 6> FINISHES = {"", "stop", "length", "loop", "cancelled", "failed"};

}  // namespace

Mode parse_mode(const std::string & name) { return parse_name<Mode>(MODES, name, "mode", "modes"); }

Reveal parse_reveal(const std::string & name) { return parse_name<Reveal>(ORDERS, name, "reveal order", "orders"); }

const char * name_of(Mode mode) { return MODES.at(static_cast<size_t>(mode)); }
const char * name_of(Reveal reveal) { return ORDERS.at(static_cast<size_t>(reveal)); }
const char * name_of(Finish finish) { return FINISHES.at(static_cast<size_t>(finish)); }

}  // namespace trimode
