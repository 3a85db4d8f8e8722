#include "forward/batch.h"

#include <stdexcept>

namespace trimode {

// `pos`: of the first token; `cell_pos`: whose cell it takes.
int Batch::add(const Sequence & sequence, const std::vector<llama_token> & tokens, int32_t pos, int32_t cell_pos) {
    const int first = size();
    if (cell_pos + static_cast<int>(tokens.size()) > sequence.room()) {
        throw std::logic_error("rows without cells");
    }
    for (const llama_token token : tokens) {
        rows_.push_back({token,
                         pos++,
                         cell_pos,
                         sequence.cell(cell_pos),
                         &sequence,
                         {first, first},
                         {first, first},
                         false,
                         Want::nothing});
        ++cell_pos;
    }
    return first;
}

int Batch::add_causal(const Sequence & sequence, const std::vector<llama_token> & tokens, Want others, Want last) {
    const int first = add(sequence, tokens, sequence.size(), sequence.size());
    for (int i = first; i < size(); ++i) {
        rows_[i].sees.end = i + 1;
        rows_[i].want = i + 1 < size() ? others : last;
    }
    return first;
}

int Batch::add_block(const Sequence & sequence, const std::vector<llama_token> & tokens, Want first, Want others,
                     bool lora) {
    const int begin = add(sequence, tokens, sequence.size(), sequence.size());
    for (int i = begin; i < size(); ++i) {
        rows_[i].sees.end = size();
        rows_[i].lora = lora;
        rows_[i].want = i == begin ? first : others;
    }
    return begin;
}

int Batch::add_branch(int last, const std::vector<llama_token> & tokens, Want first, Want others, bool lora) {
    const Row trunk = rows_.at(last);
    const int32_t cells_taken = size() - trunk.sees.begin;  // by the run and its other branches
    const int begin = add(*trunk.sequence, tokens, trunk.pos + 1, trunk.sequence->size() + cells_taken);
    for (int i = begin; i < size(); ++i) {
        rows_[i].sees = trunk.sees;
        rows_[i].group = {begin, size()};
        rows_[i].lora = lora;
        rows_[i].want = i == begin ? first : others;
    }
    return begin;
}

int Batch::add_run(int last, const std::vector<llama_token> & tokens, int32_t place, Want want) {
    const Row trunk = rows_.at(last);
    const int begin = add(*trunk.sequence, tokens, trunk.pos + 1, place);
    for (int i = begin; i < size(); ++i) {
        rows_[i].sees = trunk.sees;
        rows_[i].group = {begin, i + 1};
        rows_[i].want = want;
    }
    return begin;
}

void Batch::commit(Sequence & sequence, int first, int n) const {
    for (int i = first; i < first + n; ++i) {
        sequence.tokens.push_back(rows_[i].token);
    }
}

void Batch::commit_run(Sequence & sequence, int first, int n, KvCache & cache) const {
    std::vector<int32_t> from, to;
    for (int i = first; i < first + n; ++i) {
        from.push_back(rows_[i].cell);
        to.push_back(sequence.cell(rows_[i].pos));
    }
    cache.copy(from, to);
    commit(sequence, first, n);
}

}  // namespace trimode
