#include "model/packed_weights.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "ggml-backend.h"
#include "model/placement.h"
#include "util/lock_memory.h"
#include "util/process_end.h"

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace trimode {

namespace {

constexpr int64_t PIECE = 16;  // tiles that a thread takes at a time

bool is_packable(const ggml_tensor * t) {
    return ggml_n_dims(t) <= 2 && t->buffer && !device_of(t) && products::has_product(t->type, t->ne[0], t->ne[1]);
}

void pack(products::PackedWeight & weight, const void * data) {
    const int64_t n_tiles = weight.n_tiles();
    std::atomic<int64_t> next{0};
    const auto work = [&] {
        for (int64_t begin = next.fetch_add(PIECE); begin < n_tiles; begin = next.fetch_add(PIECE)) {
            weight.pack(data, begin, std::min(begin + PIECE, n_tiles));
        }
    };
    const int64_t wanted = std::min<int64_t>(std::max(std::thread::hardware_concurrency(), 1u), n_tiles / PIECE);
    std::vector<std::thread> threads;
    for (int64_t i = 1; i < wanted; ++i) {
        threads.emplace_back(work);
    }
    work();
    for (std::thread & thread : threads) {
        thread.join();
    }
}

bool is_mapped(const ggml_tensor * t) { return std::strcmp(ggml_backend_buffer_name(t->buffer), "CPU_Mapped") == 0; }

// Whole pages of the tensor: of a mapped file they can be read again, others are zero from now on.
bool drop(const ggml_tensor * t) {
#ifdef __linux__
    const bool is_plain = std::strcmp(ggml_backend_buffer_name(t->buffer), "CPU") == 0;
    if (!is_mapped(t) && !is_plain) {
        return false;  // a device's buffer in main memory: pinned
    }
    const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(t->data) + page - 1) / page * page;
    const uintptr_t end = (reinterpret_cast<uintptr_t>(t->data) + ggml_nbytes(t)) / page * page;
    return begin < end && madvise(reinterpret_cast<void *>(begin), end - begin, MADV_DONTNEED) == 0;
#else
    (void)t;
    return false;
#endif
}

}  // namespace

PackedWeights::PackedWeights(const std::vector<ggml_tensor *> & tensors, const ggml_tensor * kept, bool no_alloc) {
    for (const ggml_tensor * t : tensors) {
        if (!is_packable(t) || entries_.count(t)) {
            continue;
        }
        Entry & entry = entries_.emplace(t, Entry{{t->type, t->ne[0], t->ne[1]}, false}).first->second;
        if (no_alloc) {
            entry.original_dropped = t->data != kept->data || is_mapped(t);
            continue;
        }
        if (ProcessEnd::begun()) {
            throw std::runtime_error("the process ends");
        }
        entry.weight.allocate();
        pack(entry.weight, t->data);
        if (t->data != kept->data || is_mapped(t)) {
            entry.original_dropped = drop(t);
        }
    }
}

const products::PackedWeight * PackedWeights::find(const ggml_tensor * tensor) const {
    const auto found = entries_.find(tensor);
    return found == entries_.end() ? nullptr : &found->second.weight;
}

void PackedWeights::replace(const ggml_tensor * tensor, const void * data) {
    const auto found = entries_.find(tensor);
    if (found != entries_.end()) {
        pack(found->second.weight, data);
    }
}

size_t PackedWeights::lock() const {
    size_t total = 0;
    for (const auto & [tensor, entry] : entries_) {
        lock_memory(entry.weight.weight().data, entry.weight.bytes());
        total += entry.weight.bytes();
    }
    return total;
}

bool PackedWeights::holds_alone(const ggml_tensor * tensor) const {
    const auto found = entries_.find(tensor);
    return found != entries_.end() && found->second.original_dropped;
}

}  // namespace trimode
