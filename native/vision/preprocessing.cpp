#include "vision/preprocessing.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace trimode {

namespace {

constexpr int CHANNELS = 3;

// Four neighbours and their weights, of one output coordinate. Edges are repeated.
struct Taps {
    std::array<int, 4> index;
    std::array<float, 4> weight;
};

// Keys' cubic convolution with A = -0.75, pixel centres at halves, as OpenCV's INTER_CUBIC (modules/imgproc,
// interpolateCubic). Coordinates are double, as in OpenCV with IPP.
std::vector<Taps> cubic_taps(int n_in, int n_out) {
    constexpr float A = -0.75f;
    std::vector<Taps> taps(n_out);
    for (int i = 0; i < n_out; ++i) {
        const double x = (i + 0.5) * (double(n_in) / n_out) - 0.5;
        const double left = std::floor(x);
        const auto t = static_cast<float>(x - left);
        const float u = 1.0f - t;
        Taps & tap = taps[i];
        tap.weight[0] = ((A * (t + 1.0f) - 5.0f * A) * (t + 1.0f) + 8.0f * A) * (t + 1.0f) - 4.0f * A;
        tap.weight[1] = ((A + 2.0f) * t - (A + 3.0f)) * t * t + 1.0f;
        tap.weight[2] = ((A + 2.0f) * u - (A + 3.0f)) * u * u + 1.0f;
        tap.weight[3] = 1.0f - tap.weight[0] - tap.weight[1] - tap.weight[2];
        for (int k = 0; k < 4; ++k) {
            tap.index[k] = std::clamp(static_cast<int>(left) - 1 + k, 0, n_in - 1);
        }
    }
    return taps;
}

// Rows of the picture, resized along their length when they are asked for; the last few are kept.
class ResizedRows {
  public:
    ResizedRows(const uint8_t * rgb, int width, int n_out)
        : rgb_(rgb), width_(width), taps_(width == n_out ? std::vector<Taps>{} : cubic_taps(width, n_out)) {
        for (Row & row : rows_) {
            row.values.resize(size_t(n_out) * CHANNELS);
        }
    }

    const std::vector<float> & at(int y) {
        Row & row = rows_[y % rows_.size()];
        if (row.y != y) {
            row.y = y;
            resize(rgb_ + size_t(y) * width_ * CHANNELS, row.values);
        }
        return row.values;
    }

  private:
    struct Row {
        int y = -1;
        std::vector<float> values;
    };

    void resize(const uint8_t * from, std::vector<float> & to) const {
        if (taps_.empty()) {
            std::copy_n(from, to.size(), to.begin());
            return;
        }
        for (size_t x = 0; x < taps_.size(); ++x) {
            const Taps & tap = taps_[x];
            for (int c = 0; c < CHANNELS; ++c) {
                float sum = 0.0f;
                for (int k = 0; k < 4; ++k) {
                    sum += float(from[tap.index[k] * CHANNELS + c]) * tap.weight[k];
                }
                to[x * CHANNELS + c] = sum;
            }
        }
    }

    const uint8_t * rgb_;
    int width_;
    std::vector<Taps> taps_;
    std::array<Row, 4> rows_;  // four neighbours have four places
};

}  // namespace

CellGrid cell_grid(int width, int height, int max_side) {
    const double ratio = std::max(double(width) / max_side, double(height) / max_side);
    if (ratio > 1.0) {
        width = static_cast<int>(std::nearbyint(width / ratio));
        height = static_cast<int>(std::nearbyint(height / ratio));
    }
    // A side that is much shorter than the other may have come to nothing.
    return {(std::max(width, 1) - 1) / CELL_PIXELS + 1, (std::max(height, 1) - 1) / CELL_PIXELS + 1};
}

std::vector<float> preprocess(const uint8_t * rgb, int width, int height, const CellGrid & grid,
                              const TowerHparams & hparams) {
    const int n_x = grid.columns * CELL_PIXELS, n_y = grid.rows * CELL_PIXELS;
    std::vector<float> pixels(size_t(CHANNELS) * n_x * n_y);
    ResizedRows rows(rgb, width, n_x);
    // Along the height alone where it keeps its size: the weights are 0, 1, 0, 0 then.
    const std::vector<Taps> taps = cubic_taps(height, n_y);
    std::vector<float> line(size_t(n_x) * CHANNELS);
    for (int y = 0; y < n_y; ++y) {
        const Taps & tap = taps[y];
        std::fill(line.begin(), line.end(), 0.0f);
        for (int k = 0; k < 4; ++k) {
            const std::vector<float> & row = rows.at(tap.index[k]);
            for (size_t i = 0; i < line.size(); ++i) {
                line[i] += row[i] * tap.weight[k];
            }
        }
        for (int c = 0; c < CHANNELS; ++c) {
            float * out = pixels.data() + (size_t(c) * n_y + y) * n_x;
            for (int x = 0; x < n_x; ++x) {
                out[x] = (line[size_t(x) * CHANNELS + c] / 255.0f - hparams.mean[c]) / hparams.std[c];
            }
        }
    }
    return pixels;
}

std::vector<float> patches_by_cell(const std::vector<float> & pixels, const CellGrid & grid) {
    const int n_x = grid.columns * CELL_PIXELS, n_y = grid.rows * CELL_PIXELS;
    std::vector<float> patches(pixels.size());
    float * out = patches.data();
    const std::vector<int32_t> positions = patch_positions(grid);
    const size_t n = positions.size() / 2;
    for (size_t i = 0; i < n; ++i) {
        for (int c = 0; c < CHANNELS; ++c) {
            for (int y = 0; y < PATCH_PIXELS; ++y, out += PATCH_PIXELS) {
                const size_t row = size_t(c) * n_y + size_t(positions[i]) * PATCH_PIXELS + y;
                std::copy_n(pixels.data() + row * n_x + size_t(positions[n + i]) * PATCH_PIXELS, PATCH_PIXELS, out);
            }
        }
    }
    return patches;
}

std::vector<int32_t> patch_positions(const CellGrid & grid) {
    const size_t n = size_t(grid.cells()) * CELL_PATCHES * CELL_PATCHES;
    std::vector<int32_t> positions(2 * n);
    size_t i = 0;
    for (int cell = 0; cell < grid.cells(); ++cell) {
        for (int patch = 0; patch < CELL_PATCHES * CELL_PATCHES; ++patch, ++i) {
            positions[i] = cell / grid.columns * CELL_PATCHES + patch / CELL_PATCHES;
            positions[n + i] = cell % grid.columns * CELL_PATCHES + patch % CELL_PATCHES;
        }
    }
    return positions;
}

}  // namespace trimode
