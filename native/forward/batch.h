// The rows of one forward pass. Every mode is expressed in rows: which token at which position, what it sees,
// whether the drafter LoRA applies, and what is wanted of its logits.
#pragma once

#include <vector>

#include "cache/kv_cache.h"
#include "cache/sequence.h"

namespace trimode {

constexpr int N_CANDIDATES = 128;

enum class Want {
    nothing,
    token,       // argmax
    confidence,  // argmax and its probability
    runner_up,   // argmax and the second-best token
    candidates,  // argmax, and a row that holds its N_CANDIDATES highest logits at least; the rest may be -infinity
    logits,      // argmax, and the full row for whoever samples
};

// Rows [begin, end) of a batch.
struct RowRange {
    int begin, end;
};

struct Row {
    llama_token token;
    int32_t pos;
    int32_t place;              // of its keys and values in the sequence's pages ...
    int32_t cell;               // ... and in the cache
    const Sequence * sequence;  // sees all its committed cells ...
    RowRange sees;              // ... these rows of the batch ...
    RowRange group;             // ... and these: of its branch; empty elsewhere
    bool lora;
    Want want;
};

class Batch {
  public:
    explicit Batch(int capacity) : capacity_(capacity) {}

    int capacity() const { return capacity_; }
    int room() const { return capacity_ - size(); }
    int size() const { return static_cast<int>(rows_.size()); }
    const std::vector<Row> & rows() const { return rows_; }

    // The sequence must have pages for what is added: its rows take the cells of their positions, until they are
    // committed or others take them.

    // Rows that follow `sequence`, each seeing it and this run up to itself (prefill, ar, verify, commit).
    // Returns the index of the first row; `last` is wanted of the last row, `others` of the rest.
    int add_causal(const Sequence & sequence, const std::vector<llama_token> & tokens, Want others, Want last);

    // Rows that follow `sequence`, each seeing it and the whole block (draft, denoise). `first` is wanted of the
    // first row, which in a draft is the known seed, `others` of the rest.
    int add_block(const Sequence & sequence, const std::vector<llama_token> & tokens, Want first, Want others,
                  bool lora);

    // Rows that branch off behind row `last` of a causal run, the last thing added: masks for the positions behind it,
    // which see what that row sees and each other. `first` is wanted of the first row, `others` of the rest. Their
    // positions may be those of other rows, so they take the cells behind all rows of the sequence that were added.
    int add_branch(int last, const std::vector<llama_token> & tokens, Want first, Want others, bool lora);

    // A causal run that branches off behind row `last` of another one, each row seeing what that row sees and this run
    // up to itself. Its keys and values take the cells of `place` and those behind it (see side_places.h).
    int add_run(int last, const std::vector<llama_token> & tokens, int32_t place, Want want);

    // Appends rows [first, first + n) to the sequence that they follow.
    void commit(Sequence & sequence, int first, int n) const;

    // The same for rows of a run that branched off, whose keys and values go to the cells of their positions.
    void commit_run(Sequence & sequence, int first, int n, KvCache & cache) const;

    // On a device: the pass is computed with so many rows and wanted rows, however many there are, and a row's
    // attention over a number of cells that follows from its own place, not from that of the other rows: so products
    // and attention run the same kernels in the same order for a row whatever is computed with it. 0, or less than the
    // rows: the pass is padded as others are.
    void set_exact_rows(int n) { exact_rows_ = n; }
    int exact_rows() const { return exact_rows_; }

    void clear() {
        rows_.clear();
        exact_rows_ = 0;
    }

  private:
    int add(const Sequence & sequence, const std::vector<llama_token> & tokens, int32_t pos, int32_t cell_pos);

    int capacity_;
    int exact_rows_ = 0;
    std::vector<Row> rows_;
};

}  // namespace trimode
