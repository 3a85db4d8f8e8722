#include "engine/logits_query.h"

namespace trimode {

namespace {

class LogitsRun {
  public:
    LogitsRun(const LogitsQuery & query, Sequence & sequence, Forward & forward, int n_vocab, int n_batch)
        : query_(query),
          sequence_(sequence),
          forward_(forward),
          n_vocab_(n_vocab),
          batch_(n_batch),
          logits_(size_t(query.size() - query.first) * n_vocab) {}

    std::vector<float> run() {
        const int n_causal = query_.n_causal();
        for (int begin = sequence_.size(); begin < n_causal; begin = sequence_.size()) {
            const int end = std::min(begin + batch_.capacity(), n_causal);
            pass(begin, begin < query_.first ? std::min(query_.first, end) : end);
        }
        if (n_causal < query_.size()) {
            pass(n_causal, query_.size());
        }
        return std::move(logits_);
    }

  private:
    // Rows [begin, end), which are all wanted or all not, all causal or all of the block.
    void pass(int begin, int end) {
        const std::vector<llama_token> part(query_.tokens.begin() + begin, query_.tokens.begin() + end);
        const Want want = end > query_.first ? Want::logits : Want::nothing;
        const int row = begin < query_.n_causal() ? batch_.add_causal(sequence_, part, want, want)
                                                  : batch_.add_block(sequence_, part, want, want, query_.lora);
        forward_.run(batch_);
        for (int i = std::max(begin, query_.first); i < end; ++i) {
            const float * logits = forward_.logits(row + i - begin);
            std::copy(logits, logits + n_vocab_, logits_.begin() + size_t(i - query_.first) * n_vocab_);
        }
        batch_.commit(sequence_, row, end - begin);
        batch_.clear();
    }

    const LogitsQuery & query_;
    Sequence & sequence_;
    Forward & forward_;
    int n_vocab_;
    Batch batch_;
    std::vector<float> logits_;
};

}  // namespace

std::vector<float> compute_logits(const LogitsQuery & query, Sequence & sequence, Forward & forward, int n_vocab,
                                  int n_batch) {
    return LogitsRun(query, sequence, forward, n_vocab, n_batch).run();
}

}  // namespace trimode
