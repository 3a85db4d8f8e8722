#include "speculation/simulated.h"

#include <stdexcept>
#include <string>

namespace trimode {

void SimulatedAcceptance::check() const {
    const auto check_rate = [](double rate) {
        if (!(rate >= 0.0 && rate <= 1.0)) {
            throw std::invalid_argument("simulated acceptance is a number between 0 and 1, not " +
                                        std::to_string(rate));
        }
    };
    check_rate(after_rejection);
    for (const double rate : rates) {
        check_rate(rate);
    }
}

}  // namespace trimode
