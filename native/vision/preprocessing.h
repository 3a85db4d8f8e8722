// From the pixels of a picture to what the tower reads, as the model's own preprocessing does: sides at most
// `max_side`, up to whole cells of 28 pixels, cubic resize in floats (A = -0.75, no antialiasing, nothing rounded or
// clipped, as cv2.resize INTER_CUBIC of float32), mean and deviation.
#pragma once

#include <cstdint>
#include <vector>

#include "vision/tower_file.h"

namespace trimode {

struct CellGrid {
    int columns, rows;
    int cells() const { return columns * rows; }
};

// The cells of a picture of such sides. Sides are rounded half to even, as Python's round.
CellGrid cell_grid(int width, int height, int max_side);

// [3, rows * 28, columns * 28] of uint8 RGB pixels [height, width, 3].
std::vector<float> preprocess(const uint8_t * rgb, int width, int height, const CellGrid & grid,
                              const TowerHparams & hparams);

// [n_patches, 3 * 14 * 14]: the four patches of a cell together, cell by cell.
std::vector<float> patches_by_cell(const std::vector<float> & pixels, const CellGrid & grid);

// [2, n_patches]: row and column of each of these patches.
std::vector<int32_t> patch_positions(const CellGrid & grid);

}  // namespace trimode
