// Images in prompts as Python sees them: pytrimode._native.Image.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "cache/image_rows.h"

namespace nb = nanobind;
using namespace trimode;

void bind_images(nb::module_ & m) {
    nb::class_<ImageHandle>(m, "Image",
                            "Rows of an image that an engine knows; its vectors are there for as long as this is.")
        .def_prop_ro(
            "key", [](const ImageHandle & image) { return image.ids->key; }, "Names the content.")
        .def_prop_ro(
            "first", [](const ImageHandle & image) { return image.ids->first; },
            "The id of its first row, below -1; those of the others follow downwards.")
        .def_prop_ro(
            "n_rows", [](const ImageHandle & image) { return image.ids->n; }, "Number of rows.")
        .def_prop_ro(
            "n_bytes",
            [](const ImageHandle & image) { return image.vectors ? image.vectors->size() * sizeof(float) : 0; },
            "Bytes of its vectors; 0 without.");
}
