// Packed weights of any bytes, all types and shapes, with activations of any bytes: the plain kernels stay within their
// data, and a row's results do not depend on the rows beside it.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "products/products.h"
#include "products/types.h"

using namespace trimode::products;

namespace {

constexpr ggml_type TYPES[] = {
#define X(name) GGML_TYPE_##name,
    PYTRIMODE_PRODUCT_TYPES(X)
#undef X
};

// What there is of the input's bytes, and zeros.
template <typename T>
std::vector<T> values(FuzzedDataProvider & data, size_t n) {
    std::vector<T> made(n);
    const std::vector<uint8_t> bytes = data.ConsumeBytes<uint8_t>(n * sizeof(T));
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<uint8_t *>(made.data()));
    return made;
}

std::vector<float> product(const PackedWeight & weight, const std::vector<float> & x, int64_t n_rows) {
    const Kernels & plain = *available().back();
    const int64_t n_in = weight.n_in();
    std::vector<float> out(n_rows * weight.n_out());
    Job job{weight.weight(), x.data(), n_rows, n_in, out.data(), weight.n_out()};
    std::vector<Record> records;
    if (!takes_floats(weight.type())) {
        const int64_t n_panels = (n_rows + PANEL - 1) / PANEL;
        records.resize(n_panels * PANEL * (n_in / BLOCK));
        for (int64_t row = 0; row < n_rows; ++row) {
            const int64_t in_panel = std::min<int64_t>(n_rows - row / PANEL * PANEL, PANEL);
            plain.quantize(&x[row * n_in], n_in, &records[row / PANEL * PANEL * (n_in / BLOCK) + row % PANEL],
                           in_panel);
        }
        job.activations = records.data();
    }
    weight.kernel(plain)(job, 0, weight.n_tiles());
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * bytes, size_t n) {
    FuzzedDataProvider data(bytes, n);
    const ggml_type type = data.PickValueInArray(TYPES);
    const int64_t n_in = data.ConsumeIntegralInRange(1, 8) * (data.ConsumeBool() ? 256 : 32);
    const int64_t n_out = data.ConsumeIntegralInRange(1, 40), n_rows = data.ConsumeIntegralInRange(1, 20);
    if (!has_product(type, n_in, n_out)) {
        return 0;
    }
    const std::vector<float> x = values<float>(data, n_rows * n_in);
    const std::vector<uint8_t> rows = values<uint8_t>(data, n_out * ggml_row_size(type, n_in));
    PackedWeight weight(type, n_in, n_out);
    weight.allocate();
    weight.pack(rows.data(), 0, weight.n_tiles());
    const std::vector<float> all = product(weight, x, n_rows);
    const std::vector<float> last = product(weight, {x.end() - n_in, x.end()}, 1);
    for (int64_t i = 0; i < n_out; ++i) {
        const float a = all[(n_rows - 1) * n_out + i], b = last[i];
        if (std::memcmp(&a, &b, sizeof a) != 0 && !(std::isnan(a) && std::isnan(b))) {
            std::abort();
        }
    }
    return 0;
}
