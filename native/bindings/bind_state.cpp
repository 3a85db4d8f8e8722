// Engine.save_state and load_state: a cached prompt as numpy arrays.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <tuple>

#include "bindings/gil.h"
#include "engine/engine.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

namespace {

using ByteArray = nb::ndarray<nb::numpy, uint8_t, nb::ndim<3>>;
using ConstByteArray = nb::ndarray<const uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

std::tuple<std::vector<llama_token>, ByteArray, ByteArray> save_state(Engine & engine,
                                                                      const std::vector<llama_token> & tokens,
                                                                      const std::vector<ImageHandle> & images,
                                                                      llama_token image_pad,
                                                                      const std::vector<float> & lora_scales) {
    auto * prefix = new SavedPrefix();
    const nb::capsule owner(prefix, [](void * p) noexcept { delete static_cast<SavedPrefix *>(p); });
    {
        const GilReleased release;
        *prefix = engine.save_state(place_images(tokens, images, image_pad), lora_scales);
    }
    const auto array = [&](std::vector<uint8_t> & bytes, size_t row) {
        return ByteArray(bytes.data(), {prefix->n_layer, prefix->tokens.size(), row}, owner);
    };
    return {prefix->tokens, array(prefix->k, prefix->k_bytes), array(prefix->v, prefix->v_bytes)};
}

void load_state(Engine & engine, const std::vector<llama_token> & tokens, const ConstByteArray & k,
                const ConstByteArray & v, const std::vector<float> & lora_scales) {
    const GilReleased release;
    engine.load_state(tokens, {k.data(), k.nbytes()}, {v.data(), v.nbytes()}, lora_scales);
}

}  // namespace

void bind_state(nb::module_ & m) {
    auto engine = nb::borrow<nb::class_<Engine>>(m.attr("Engine"));
    engine.def("save_state", &save_state, "tokens"_a, "images"_a = std::vector<ImageHandle>{}, "image_pad"_a = -1,
               "lora_scales"_a = std::vector<float>{},
               "Return the longest beginning of `tokens` that finished requests have left, its keys and its values "
               "as the cache stores them: [n_layer, n, bytes of a row]. No tokens where there are none.");
    engine.def(
        "load_state", &load_state, "tokens"_a, "k"_a, "v"_a, "lora_scales"_a = std::vector<float>{},
        "Put such a beginning into the cache. Raises ValueError for arrays of another size, for more tokens than "
        "the context, or none; RuntimeError when running requests leave no slot or no room.");
}
