// Log-probabilities of texts that may follow one prompt, outside of any request: what decisions and graders compare.
#pragma once

#include <vector>

#include "cache/prefix_cache.h"
#include "forward/forward.h"

namespace trimode {

// Rows as of mode ar. The keys and values of the prompt may come from the cache, where they have the same bits, and
// stay there; those of the continuations do not.
struct ScoreQuery {
    std::vector<llama_token> prompt;                      // not empty
    std::vector<std::vector<llama_token>> continuations;  // none of them empty
    uint64_t cache_scope = 0;                             // as a request's
    std::vector<float> lora_scales = {};                  // of the model's adapters
};

// Natural logarithms of the probabilities of a continuation's tokens, one for each.
using Scores = std::vector<std::vector<float>>;

// Scores the continuations in parts, none of which takes much longer than a pass of other requests.
class ScoreRun {
  public:
    // `excluded`: the mask id, which no row predicts, or -1. Passes have at most `n_batch` rows.
    ScoreRun(const ScoreQuery & query, int n_vocab, llama_token excluded, int n_batch);

    bool done() const { return next_ == paths_.size(); }

    // The next part: `prompt_rows` tokens of the prompt, where the cache has not all of it, else a few continuations at
    // once, as rows of one pass that see the prompt and their own tokens. `force` as for PrefixCache::acquire. False,
    // and nothing is done: the cache has no room.
    bool step(PrefixCache & prefixes, Forward & forward, bool force, int prompt_rows);

    Scores take() { return std::move(scores_); }

  private:
    // The prompt's last token and what is read behind it; each of its rows predicts a token of one or more
    // continuations.
    struct Path {
        std::vector<llama_token> tokens;
        std::vector<size_t> continuations;
        CachedSequence * sequence = nullptr;
        int n_read = 0;
    };

    bool acquire(Path & path, PrefixCache & prefixes, bool force) const;
    std::vector<Path *> with_next(Path & first, PrefixCache & prefixes);
    bool read_prompt(CachedSequence & sequence, Forward & forward, int n_most);
    void read(const std::vector<Path *> & part, Forward & forward);
    void keep(const Path & path, int row, int begin, int end, const Forward & forward);

    const ScoreQuery & query_;
    int n_vocab_;
    llama_token excluded_;
    int max_rows_;  // of a pass in which all logits are wanted
    Batch batch_;
    std::vector<Path> paths_;
    size_t next_ = 0;
    int n_prompt_ = 0;  // read so far, where a part ended within the prompt
    Scores scores_;
};

}  // namespace trimode
