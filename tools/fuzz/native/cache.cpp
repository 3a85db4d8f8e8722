// The prefix cache and the batches over it: prompts, answers, and requests that are suspended, resumed and over. Each
// cell says which token of whose scope it was written for, and every sequence must find its own.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdlib>
#include <cstring>

#include "cache/prefix_cache.h"
#include "forward/batch.h"

namespace trimode {

namespace {

constexpr int N_CELLS = 8 * PAGE_CELLS;

void require(bool what) {
    if (!what) {
        std::abort();
    }
}

}  // namespace

// In place of cache/kv_cache.cpp, which needs a model: one layer of numbers in main memory.
KvCache::KvCache(const Model &, int n_cells, ggml_type type_k, ggml_type type_v) {
    ctx_.reset(ggml_init({size_t(1) << 20, nullptr, /*no_alloc=*/false}));
    k_ = {ggml_new_tensor_2d(ctx_.get(), type_k, 2, n_cells)};
    v_ = {ggml_new_tensor_2d(ctx_.get(), type_v, 2, n_cells)};
}

void KvCache::read(const std::vector<int32_t> & cells, uint8_t * k, uint8_t * v) const {
    for (size_t i = 0; i < cells.size(); ++i) {
        require(cells[i] >= 0 && cells[i] < n_cells());
        std::memcpy(k + i * k_bytes(), static_cast<uint8_t *>(k_[0]->data) + cells[i] * k_bytes(), k_bytes());
        std::memcpy(v + i * v_bytes(), static_cast<uint8_t *>(v_[0]->data) + cells[i] * v_bytes(), v_bytes());
    }
}

void KvCache::write(const std::vector<int32_t> & cells, const uint8_t * k, const uint8_t * v) {
    for (size_t i = 0; i < cells.size(); ++i) {
        require(cells[i] >= 0 && cells[i] < n_cells());
        std::memcpy(static_cast<uint8_t *>(k_[0]->data) + cells[i] * k_bytes(), k + i * k_bytes(), k_bytes());
        std::memcpy(static_cast<uint8_t *>(v_[0]->data) + cells[i] * v_bytes(), v + i * v_bytes(), v_bytes());
    }
}

namespace {

struct Cell {
    int32_t token, scope;
};

class Check {
  public:
    explicit Check(FuzzedDataProvider & data) : data_(data) {
        if (data.ConsumeBool()) {
            prefixes_.set_whole_batches(data.ConsumeBool() ? PAGE_CELLS : 48);
        }
    }

    void step() {
        switch (data_.ConsumeIntegralInRange(0, 7)) {
            case 0:
            case 1:
                acquire();
                break;
            case 2:
                if (CachedSequence * one = any(CachedSequence::State::running)) {
                    pass(*one);
                }
                break;
            case 3:
                if (CachedSequence * one = any(CachedSequence::State::running)) {
                    prefixes_.suspend(*one);
                }
                break;
            case 4:
                if (CachedSequence * one = any(CachedSequence::State::suspended)) {
                    prefixes_.resume(*one, one->size() + data_.ConsumeIntegralInRange(0, 100), data_.ConsumeBool());
                }
                break;
            case 5:
                if (!held_.empty()) {
                    const size_t i = data_.ConsumeIntegralInRange<size_t>(0, held_.size() - 1);
                    const int n = data_.ConsumeIntegralInRange(0, held_[i]->size());
                    prefixes_.finish(held_[i], n, data_.ConsumeBool());
                    held_.erase(held_.begin() + static_cast<ptrdiff_t>(i));
                }
                break;
            case 6:
                add_idle();
                break;
            default:
                prefixes_.clear();
        }
        check();
    }

  private:
    std::vector<llama_token> tokens(int most) {
        std::vector<llama_token> made;
        const int n = data_.ConsumeIntegralInRange(1, most);
        const int kind = data_.ConsumeIntegralInRange(0, 3);  // prompts that begin alike
        const int change = data_.ConsumeIntegralInRange(0, 2 * most);
        for (int i = 0; i < n; ++i) {
            made.push_back(i < change ? kind : kind + 10 + i % 3);
        }
        return made;
    }

    CachedSequence * any(CachedSequence::State state) {
        std::vector<CachedSequence *> found;
        for (CachedSequence * one : held_) {
            if (one->state == state) {
                found.push_back(one);
            }
        }
        return found.empty() ? nullptr : found[data_.ConsumeIntegralInRange<size_t>(0, found.size() - 1)];
    }

    void put(const CachedSequence & sequence, int begin) {
        for (int i = begin; i < sequence.size(); ++i) {
            const Cell cell{sequence.tokens[i], static_cast<int32_t>(sequence.scope)};
            const auto * bytes = reinterpret_cast<const uint8_t *>(&cell);
            cache_.write({sequence.cell(i)}, bytes, bytes);
        }
    }

    void acquire() {
        const std::vector<llama_token> prompt = tokens(200);
        const uint64_t scope = data_.ConsumeIntegralInRange(0, 1);
        CachedSequence * made =
            prefixes_.acquire(prompt, data_.ConsumeIntegralInRange(1, 200), data_.ConsumeBool(), {}, scope);
        if (made) {
            require(made->size() < static_cast<int>(prompt.size()));
            require(std::equal(made->tokens.begin(), made->tokens.end(), prompt.begin()));
            held_.push_back(made);
        }
    }

    void pass(CachedSequence & sequence) {
        const std::vector<llama_token> rows = tokens(70), branch = tokens(20);
        const int n = static_cast<int>(rows.size() + branch.size());
        if (!prefixes_.grow(sequence, sequence.size() + n)) {
            require(sequence.state == CachedSequence::State::suspended);
            return;
        }
        Batch batch(n);
        int first = 0;
        if (data_.ConsumeBool()) {
            first = batch.add_causal(sequence, rows, Want::nothing, Want::token);
            batch.add_branch(batch.size() - 1, branch, Want::token, Want::candidates, true);
        } else {
            first = batch.add_block(sequence, rows, Want::nothing, Want::confidence, true);
        }
        for (const Row & row : batch.rows()) {
            require(row.cell == sequence.cell(row.place) && row.place >= sequence.size());
            const Cell in_flight{-1, -1};  // what is never committed
            cache_.write({row.cell}, reinterpret_cast<const uint8_t *>(&in_flight),
                         reinterpret_cast<const uint8_t *>(&in_flight));
            require(row.sees.begin >= 0 && row.sees.end <= batch.size() && row.group.end <= batch.size());
        }
        const int before = sequence.size();
        batch.commit(sequence, first, data_.ConsumeIntegralInRange(0, static_cast<int>(rows.size())));
        put(sequence, before);
    }

    void add_idle() {
        const std::vector<llama_token> made = tokens(200);
        if (CachedSequence * one = prefixes_.add_idle(made, {})) {
            put(*one, 0);
        }
    }

    void check() const {
        std::vector<int> holders(prefixes_.pages().size(), 0);
        for (const CachedSequence & one : prefixes_.sequences()) {
            for (size_t i = 0; i < one.pages.size(); ++i) {
                require(i == 0 || one.pages[i] > one.pages[i - 1]);
                ++holders.at(one.pages[i]);
            }
            if (one.state == CachedSequence::State::suspended) {
                require(one.pages.empty());
                continue;
            }
            require(one.room() >= one.size());
            for (int i = 0; i < one.size(); ++i) {
                Cell k, v;
                cache_.read({one.cell(i)}, reinterpret_cast<uint8_t *>(&k), reinterpret_cast<uint8_t *>(&v));
                require(k.token == one.tokens[i] && k.scope == static_cast<int32_t>(one.scope));
                require(std::memcmp(&k, &v, sizeof k) == 0);
            }
        }
        int n_free = 0;
        for (int page = 0; page < prefixes_.pages().size(); ++page) {
            require(prefixes_.pages().holders(page) == holders[page]);
            n_free += holders[page] == 0;
        }
        require(prefixes_.pages().n_free() == n_free);
        require(prefixes_.n_idle() >= 0 && prefixes_.n_idle() <= prefixes_.pages().size());
    }

    FuzzedDataProvider & data_;
    int none_ = 0;
    KvCache cache_{reinterpret_cast<const Model &>(none_), N_CELLS, GGML_TYPE_F32, GGML_TYPE_F32};
    PrefixCache prefixes_{cache_};
    std::vector<CachedSequence *> held_;
};

}  // namespace

}  // namespace trimode

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * bytes, size_t n) {
    FuzzedDataProvider data(bytes, n);
    trimode::Check check(data);
    while (data.remaining_bytes() > 0) {
        check.step();
    }
    return 0;
}
