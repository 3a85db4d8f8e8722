#include "batch.h"

#include <stdexcept>

namespace trimode {

int Batch::add(const Sequence & sequence, const std::vector<llama_token> & tokens) {
    const int first = size();
    int32_t pos = sequence.size();
    if (pos + static_cast<int>(tokens.size()) > sequence.room()) {
        throw std::logic_error("rows without cells");
    }
    for (const llama_token token : tokens) {
        rows_.push_back({token, pos, sequence.cell(pos), &sequence, first, first, false, false, Want::nothing});
        ++pos;
    }
    return first;
}

int Batch::add_causal(const Sequence & sequence, const std::vector<llama_token> & tokens, Want others, Want last,
                      bool tiled) {
    const int first = add(sequence, tokens);
    if (tiled && first > 0 && !rows_[first - 1].tiled) {
        throw std::logic_error("tiled rows must come before all others");
    }
    for (int i = first; i < size(); ++i) {
        rows_[i].tiled = tiled;
        rows_[i].sees_end = i + 1;
        rows_[i].want = i + 1 < size() ? others : last;
    }
    return first;
}

int Batch::add_block(const Sequence & sequence, const std::vector<llama_token> & tokens, Want first, Want others,
                     bool lora) {
    const int begin = add(sequence, tokens);
    for (int i = begin; i < size(); ++i) {
        rows_[i].sees_end = size();
        rows_[i].lora = lora;
        rows_[i].want = i == begin ? first : others;
    }
    return begin;
}

void Batch::commit(Sequence & sequence, int first, int n) const {
    for (int i = first; i < first + n; ++i) {
        sequence.tokens.push_back(rows_[i].token);
        sequence.kernels.push_back(rows_[i].tiled ? Kernel::tiles : Kernel::rows);
    }
}

}  // namespace trimode
