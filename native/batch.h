// The rows of one forward pass. Every mode is expressed in rows: which token at which position, what it sees,
// whether the drafter LoRA applies, and what is wanted of its logits.
#pragma once

#include <vector>

#include "kv_cache.h"

namespace trimode {

enum class Want {
    nothing,
    token,       // argmax
    confidence,  // argmax and its probability
    logits,      // argmax, and the full row for whoever samples
};

struct Row {
    llama_token token;
    int32_t pos;
    int32_t cell;               // where its keys and values go
    const Sequence * sequence;  // sees all its committed cells ...
    int sees_begin, sees_end;   // ... and the rows [begin, end) of this batch
    bool lora;
    bool tiled;  // its attention takes the tiled kernel: see attention_pieces in graph.h
    Want want;
    bool committed;
};

class Batch {
  public:
    Batch(KvCache & cache, int capacity) : cache_(cache), capacity_(capacity) {}
    ~Batch() { clear(); }
    Batch(const Batch &) = delete;
    Batch & operator=(const Batch &) = delete;

    int capacity() const { return capacity_; }
    int room() const { return std::min(capacity_ - size(), cache_.n_free()); }
    int size() const { return static_cast<int>(rows_.size()); }
    const std::vector<Row> & rows() const { return rows_; }

    // Rows that follow `sequence`, each seeing it and this run up to itself (prefill, ar, verify, commit).
    // Returns the index of the first row; `last` is wanted of the last row, `others` of the rest.
    // Tiled rows must come before all others.
    int add_causal(const Sequence & sequence, const std::vector<llama_token> & tokens, Want others, Want last,
                   bool tiled = false);

    // Rows that follow `sequence`, each seeing it and the whole block (draft, denoise). `first` is wanted of the
    // first row, which in a draft is the known seed, `others` of the rest.
    int add_block(const Sequence & sequence, const std::vector<llama_token> & tokens, Want first, Want others,
                  bool lora);

    // Moves rows [first, first + n) into the sequence that they follow. The others vanish with clear().
    void commit(Sequence & sequence, int first, int n);

    void clear();

  private:
    int add(const Sequence & sequence, const std::vector<llama_token> & tokens);

    KvCache & cache_;
    int capacity_;
    std::vector<Row> rows_;
};

}  // namespace trimode
