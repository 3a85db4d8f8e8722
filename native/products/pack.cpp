#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include <strings.h>

#include "products/products.h"
#include "products/types.h"
#include "util/out_of_memory.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace trimode::products {

namespace {

constexpr int64_t CACHE_BYTES = 768 << 10;
constexpr size_t HUGE_PAGE = size_t(2) << 20;

// Bytes 4 g to 4 g + 3 of a row's values.
uint32_t group(const uint8_t * q, int g) {
    uint32_t four;
    std::memcpy(&four, q + 4 * g, 4);
    return four;
}

void put(uint8_t * plane, int r, uint32_t four) { std::memcpy(plane + 4 * r, &four, 4); }

// A block of row r in the planes that kernels.h unpacks.
template <int Bits>
void put_block(const uint8_t * q, uint8_t * out, int r) {
    constexpr uint32_t EACH = 0x01010101;
    int used = 0;
    if constexpr (Bits == 8) {
        for (int g = 0; g < 8; ++g) {
            put(out + 64 * g, r, group(q, g));
        }
    } else if constexpr (Bits >= 4) {
        for (int g = 0; g < 4; ++g) {
            put(out + 64 * g, r, (group(q, g) & EACH * 15) | (group(q, g + 4) & EACH * 15) << 4);
        }
        used = 4;
    } else {
        for (int half = 0; half < 2; ++half) {
            uint32_t four = 0;
            for (int i = 0; i < 4; ++i) {
                four |= (group(q, 4 * half + i) & EACH * 3) << (2 * i);
            }
            put(out + 64 * half, r, four);
        }
        used = 2;
    }
    if constexpr (Bits == 3 || Bits == 5) {
        uint32_t four = 0;
        for (int g = 0; g < 8; ++g) {
            four |= (group(q, g) >> (Bits - 1) & EACH) << g;
        }
        put(out + 64 * used, r, four);
    }
    if constexpr (Bits == 6) {
        for (int half = 0; half < 2; ++half) {
            uint32_t four = 0;
            for (int i = 0; i < 4; ++i) {
                four |= (group(q, 4 * half + i) >> 4 & EACH * 3) << (2 * i);
            }
            put(out + 64 * (used + half), r, four);
        }
    }
}

template <class T>
size_t tile_bytes(int64_t n_in) {
    if constexpr (T::FLOAT) {
        return size_t(n_in) * TILE * sizeof(typename T::Value);
    } else {
        const size_t n_blocks = n_in / BLOCK;
        return n_blocks * T::QUANT_BYTES + n_blocks / T::SUPER * sizeof(typename T::Scales);
    }
}

template <class T>
void pack_quantized(const uint8_t * rows, int64_t n_in, int n_rows, uint8_t * out) {
    using Block = typename T::Block;
    const int64_t n_supers = n_in / (BLOCK * T::SUPER);
    auto * scales = reinterpret_cast<typename T::Scales *>(out + n_in / BLOCK * T::QUANT_BYTES);
    uint8_t q[BLOCK * T::SUPER];
    for (int64_t i = 0; i < n_supers; ++i) {
        for (int r = 0; r < n_rows; ++r) {
            Block block;
            std::memcpy(&block, rows + (r * n_supers + i) * sizeof block, sizeof block);
            T::decode(block, q, scales[i], r);
            for (int j = 0; j < T::SUPER; ++j) {
                put_block<T::BITS>(q + BLOCK * j, out + (i * T::SUPER + j) * T::QUANT_BYTES, r);
            }
        }
    }
}

template <class T>
void pack_floats(const uint8_t * rows, int64_t n_in, int n_rows, uint8_t * out) {
    using Value = typename T::Value;
    auto * values = reinterpret_cast<Value *>(out);
    for (int64_t i = 0; i < n_in; ++i) {
        for (int r = 0; r < n_rows; ++r) {
            std::memcpy(values + i * TILE + r, rows + (r * n_in + i) * sizeof(Value), sizeof(Value));
        }
    }
}

struct Type {
    ggml_type type;
    int index;
    bool is_float;
    int64_t columns;  // a multiple of so many
    size_t (*tile_bytes)(int64_t n_in);
    void (*pack)(const uint8_t * rows, int64_t n_in, int n_rows, uint8_t * out);
};

template <class T>
constexpr Type describe(ggml_type type, int index) {
    if constexpr (T::FLOAT) {
        return {type, index, true, 1, tile_bytes<T>, pack_floats<T>};
    } else {
        return {type, index, false, int64_t(BLOCK) * T::SUPER, tile_bytes<T>, pack_quantized<T>};
    }
}

constexpr Type TYPES[] = {
#define X(name) describe<name>(GGML_TYPE_##name, INDEX_##name),
    PYTRIMODE_PRODUCT_TYPES(X)
#undef X
};

const Type * find(ggml_type type) {
    for (const Type & t : TYPES) {
        if (t.type == type) {
            return &t;
        }
    }
    return nullptr;
}

// Large weights in large pages: fewer page faults while packing and fewer misses of the TLB ever after.
uint8_t * new_data(size_t bytes) {
    const size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    void * p = nullptr;
    if (posix_memalign(&p, alignment, (bytes + 63) / 64 * 64) != 0) {
        throw OutOfMemory("no room for " + mebibytes(bytes) + " of packed weights",
                          "try a smaller file or --no-repack");
    }
#ifdef __linux__
    if (bytes >= HUGE_PAGE) {
        madvise(p, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    }
#endif
    return static_cast<uint8_t *>(p);
}

}  // namespace

bool has_product(ggml_type type, int64_t n_in, int64_t n_out) {
    const Type * t = find(type);
    return t && n_in > 0 && n_out > 0 && n_in % t->columns == 0;
}

bool has_product(const std::string & type, int64_t n_in, int64_t n_out) {
    for (const Type & t : TYPES) {
        if (strcasecmp(ggml_type_name(t.type), type.c_str()) == 0) {
            return has_product(t.type, n_in, n_out);
        }
    }
    return false;
}

size_t packed_bytes(ggml_type type, int64_t n_in, int64_t n_out) {
    return find(type)->tile_bytes(n_in) * ((n_out + TILE - 1) / TILE);
}

bool takes_floats(ggml_type type) { return find(type)->is_float; }

void PackedWeight::allocate() { data_.reset(new_data(bytes())); }

void PackedWeight::Free::operator()(uint8_t * p) const { std::free(p); }

void PackedWeight::pack(const void * source, int64_t begin, int64_t end) {
    const Type & type = *find(type_);
    const size_t row_bytes = ggml_row_size(type_, n_in_);
    for (int64_t tile = begin; tile < end; ++tile) {
        uint8_t * out = data_.get() + tile * type.tile_bytes(n_in_);
        const int64_t n_rows = std::min<int64_t>(n_out_ - tile * TILE, TILE);
        if (n_rows < TILE) {
            std::memset(out, 0, type.tile_bytes(n_in_));
        }
        type.pack(static_cast<const uint8_t *>(source) + tile * TILE * row_bytes, n_in_, static_cast<int>(n_rows), out);
    }
}

int64_t PackedWeight::tiles_in_cache() const {
    return std::max<int64_t>(CACHE_BYTES / static_cast<int64_t>(find(type_)->tile_bytes(n_in_)), 1);
}

Multiply * PackedWeight::kernel(const Kernels & kernels) const { return kernels.multiply[find(type_)->index]; }

}  // namespace trimode::products
