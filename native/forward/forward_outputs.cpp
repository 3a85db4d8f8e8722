// What a pass leaves: argmax and probability of rows, candidates, full rows of logits.
#include <algorithm>
#include <cmath>

#include "forward/forward.h"
#include "util/reduce.h"
#include "util/stopwatch.h"

namespace trimode {

void Forward::get_tensor(const ggml_tensor * tensor, void * data, size_t offset, size_t size) const {
    ggml_backend_tensor_get(tensor, data, offset, size);
    times_.bytes_out += size;
}

// -infinity but for the candidates of an output row.
const float * Forward::spread_candidates(size_t index) const {
    const size_t n_vocab = model_.n_vocab();
    const size_t n = candidates_.size() / sparse_.size();
    float * staged = staging_.data() + index * n_vocab;
    if (!fetched_[index]) {
        std::fill_n(staged, n_vocab, -INFINITY);
        for (size_t i = index * n; i < (index + 1) * n; ++i) {
            staged[candidates_[i]] = candidate_logits_[i];
        }
        fetched_[index] = 1;
    }
    return staged;
}

const float * Forward::logits(int row) const {
    const size_t index = out_index_.at(row);
    const size_t n_vocab = model_.n_vocab();
    if (sparse_[index]) {
        return spread_candidates(index);
    }
    if (ggml_backend_buffer_is_host(logits_->buffer)) {
        return static_cast<const float *>(logits_->data) + index * n_vocab;
    }
    const Stopwatch watch(times_.outputs);
    float * staged = staging_.data() + index * n_vocab;
    if (!fetched_[index]) {
        get_tensor(logits_, staged, index * logits_->nb[1], n_vocab * sizeof(float));
        fetched_[index] = 1;
    }
    return staged;
}

float Forward::probability(int row, llama_token token) const {
    const float * logits = this->logits(row);
    const size_t index = out_index_[row];
    if (sparse_[index]) {
        return top_probability_[index] * std::exp(logits[token] - top_logit_[index]);
    }
    return trimode::probability(logits, model_.n_vocab(), model_.mask_token(), {token, logits[token]});
}

// Argmax and probability of all output rows, from where they were computed.
void Forward::read_reduced(const Graph & graph) {
    const auto read = [&](const ggml_tensor * tensor, auto & values) {
        values.resize(ggml_nelements(tensor));
        get_tensor(tensor, values.data(), 0, ggml_nbytes(tensor));
    };
    read(graph.top, top_);
    read(graph.top_logit, top_logit_);
    top_probability_.assign(top_.size(), 0.0f);
    if (graph.top_probability) {
        read(graph.top_probability, top_probability_);
    }
    if (graph.candidates) {
        read(graph.candidates, candidates_);
        read(graph.candidate_logits, candidate_logits_);
    }
}

// The second-best token of an output row and the lead of its best one.
void Forward::set_runner_up(size_t index) {
    Output & output = outputs_[out_rows_[index]];
    const Top top{output.token, output.logit};
    const Top second = candidates_on_device_
                           ? second_candidate(index, top.token)
                           : runner_up(logits(out_rows_[index]), model_.n_vocab(), model_.mask_token(), top);
    output.second = second.token;
    output.lead = top.logit - second.logit;
}

Top Forward::second_candidate(size_t index, llama_token best) const {
    const size_t n = candidates_.size() / sparse_.size();
    Top second{0, -INFINITY};
    for (size_t i = index * n; i < (index + 1) * n; ++i) {
        const Top candidate{candidates_[i], candidate_logits_[i]};
        const bool higher =
            candidate.logit > second.logit || (candidate.logit == second.logit && candidate.token < second.token);
        second = higher && candidate.token != best ? candidate : second;
    }
    return second;
}

void Forward::read_outputs(const Graph & graph, const Batch & batch) {
    const Stopwatch watch(times_.outputs);
    outputs_.assign(batch.size(), Output{});
    logits_ = graph.logits;
    if (!graph.logits) {
        return;
    }
    sparse_.assign(graph.top ? graph.top->ne[0] : out_rows_.size(), 0);
    if (graph.candidates || !ggml_backend_buffer_is_host(logits_->buffer)) {
        fetched_.assign(out_rows_.size(), 0);
        staging_.resize(std::max(staging_.size(), out_rows_.size() * model_.n_vocab()));  // touched where fetched
    }
    if (graph.top) {
        read_reduced(graph);
        for (size_t i = 0; i < out_rows_.size(); ++i) {
            outputs_[out_rows_[i]] = {top_[i], top_logit_[i], top_probability_[i]};
            sparse_[i] = graph.candidates && batch.rows()[out_rows_[i]].want == Want::candidates;
            if (batch.rows()[out_rows_[i]].want == Want::runner_up) {
                set_runner_up(i);
            }
        }
        return;
    }
    const int n_vocab = model_.n_vocab();
    const llama_token mask = model_.mask_token();
    for (const int row : out_rows_) {
        const float * logits = this->logits(row);
        const Top top = argmax(logits, n_vocab, mask);
        outputs_[row] = {top.token, top.logit, 0.0f};
        if (batch.rows()[row].want == Want::confidence) {
            outputs_[row].probability = trimode::probability(logits, n_vocab, mask, top);
        }
        if (batch.rows()[row].want == Want::runner_up) {
            set_runner_up(out_index_[row]);
        }
    }
}

}  // namespace trimode
