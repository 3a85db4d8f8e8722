// What looks at an output token by token, against the definition over all of it: endless repetition and stop strings.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdlib>

#include "decoders/loop_detector.h"
#include "decoders/stop_strings.h"

namespace {

void require(bool what) {
    if (!what) {
        std::abort();
    }
}

// The shortest period of a loop at the end; 0: none.
int period_of(const std::vector<llama_token> & tokens, int window, int min_repeats) {
    const int n = static_cast<int>(tokens.size());
    for (int period = 1; period <= window / 3; ++period) {
        const int64_t needed = std::max<int64_t>(window, int64_t(min_repeats) * period);
        int64_t tail = period;
        while (tail < n && tokens[n - 1 - tail] == tokens[n - 1 - tail + period]) {
            ++tail;
        }
        if (n >= period && tail >= needed) {
            return period;
        }
    }
    return 0;
}

void check_loops(FuzzedDataProvider & data) {
    const int window = data.ConsumeIntegralInRange(3, 40), min_repeats = data.ConsumeIntegralInRange(2, 6);
    trimode::LoopDetector detector(window, min_repeats);
    std::vector<llama_token> tokens;
    while (data.remaining_bytes() > 0 && tokens.size() < 400) {
        const int times = data.ConsumeIntegralInRange(1, 30);
        const std::string piece = data.ConsumeRandomLengthString(8);
        for (int i = 0; i < times; ++i) {
            for (const char c : piece) {
                tokens.push_back(static_cast<uint8_t>(c) % 4);
                const int period = period_of(tokens, window, min_repeats);
                require(detector.push(tokens.back()) == (period != 0) && detector.period() == period);
                require(detector.repeated() >= 0 && detector.repeated() + period <= static_cast<int>(tokens.size()));
            }
        }
    }
}

void check_stops(FuzzedDataProvider & data) {
    std::vector<std::string> strings(data.ConsumeIntegralInRange(1, 4));
    for (std::string & one : strings) {
        one = data.ConsumeRandomLengthString(12) + "a";
    }
    trimode::StopStrings stops(strings);
    std::string whole;
    while (data.remaining_bytes() > 0) {
        const std::string piece = data.ConsumeRandomLengthString(10);
        whole += piece;
        const bool found = std::any_of(strings.begin(), strings.end(),
                                       [&](const std::string & one) { return whole.find(one) != std::string::npos; });
        require(stops.push(piece) == found);
        if (found) {
            return;
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * bytes, size_t n) {
    FuzzedDataProvider data(bytes, n);
    if (data.ConsumeBool()) {
        check_loops(data);
    } else {
        check_stops(data);
    }
    return 0;
}
