#include "engine/score_query.h"

#include <algorithm>
#include <numeric>

#include "sampling/logprobs.h"

namespace trimode {

ScoreRun::ScoreRun(const ScoreQuery & query, int n_vocab, llama_token excluded, int n_batch)
    : query_(query),
      n_vocab_(n_vocab),
      excluded_(excluded),
      max_rows_(std::min(n_batch, RESERVED_OUTPUTS)),
      batch_(n_batch) {
    // The longest first: a path that begins another one is read as a part of it.
    std::vector<size_t> order(query.continuations.size());
    std::iota(order.begin(), order.end(), 0);
    const auto length = [&](size_t i) { return query.continuations[i].size(); };
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return length(a) > length(b); });
    for (const size_t i : order) {
        const std::vector<llama_token> & tokens = query.continuations[i];
        const size_t n_seen = tokens.size() - 1;  // nothing is asked of the last one's row
        auto path = std::find_if(paths_.begin(), paths_.end(), [&](const Path & p) {
            return p.tokens.size() > n_seen &&
                   std::equal(tokens.begin(), tokens.begin() + n_seen, p.tokens.begin() + 1);
        });
        if (path == paths_.end()) {
            path = paths_.insert(path, Path{{query.prompt.back()}, {}});
            path->tokens.insert(path->tokens.end(), tokens.begin(), tokens.begin() + n_seen);
        }
        path->continuations.push_back(i);
    }
    for (const auto & tokens : query.continuations) {
        scores_.emplace_back(tokens.size());
    }
}

bool ScoreRun::step(PrefixCache & prefixes, Forward & forward, bool force, int prompt_rows) {
    Path & first = paths_[next_];
    if (!acquire(first, prefixes, force)) {
        return false;
    }
    const bool lost = first.sequence->size() < n_prompt_;  // what was read: others needed the cells
    if (lost || !read_prompt(*first.sequence, forward, prompt_rows)) {
        n_prompt_ = first.sequence->size();
        prefixes.finish(first.sequence, n_prompt_, /*pinned=*/false);
        return !lost;
    }
    n_prompt_ = 0;
    const std::vector<Path *> part = with_next(first, prefixes);
    for (Path * path : part) {
        read_prompt(*path->sequence, forward, static_cast<int>(query_.prompt.size()));  // is there, as a rule
    }
    read(part, forward);
    next_ += part.size();
    for (Path * path : part) {
        const bool last = path == part.back();
        prefixes.finish(path->sequence, last ? static_cast<int>(query_.prompt.size()) : 0, /*pinned=*/false);
    }
    return true;
}

bool ScoreRun::acquire(Path & path, PrefixCache & prefixes, bool force) const {
    const int n_room = static_cast<int>(query_.prompt.size() + path.tokens.size()) - 1;
    path.sequence = prefixes.acquire(query_.prompt, n_room, force, query_.lora_scales, query_.cache_scope);
    return path.sequence != nullptr;
}

// And those behind it, as many as a pass has rows and the cache has room for.
std::vector<ScoreRun::Path *> ScoreRun::with_next(Path & first, PrefixCache & prefixes) {
    std::vector<Path *> part{&first};
    size_t n_rows = first.tokens.size();
    for (size_t i = next_ + 1; i < paths_.size(); ++i) {
        n_rows += paths_[i].tokens.size();
        if (n_rows > size_t(max_rows_) || !acquire(paths_[i], prefixes, /*force=*/false)) {
            break;
        }
        part.push_back(&paths_[i]);
    }
    return part;
}

// At most `n_most` tokens of what the cache did not have of the prompt without its last one; true if that is all.
bool ScoreRun::read_prompt(CachedSequence & sequence, Forward & forward, int n_most) {
    const int n = static_cast<int>(query_.prompt.size()) - 1;
    const int end = std::min(n, sequence.size() + n_most);
    for (int begin = sequence.size(); begin < end; begin = sequence.size()) {
        const auto first = query_.prompt.begin() + begin;
        const std::vector<llama_token> rows(first, first + std::min(batch_.capacity(), end - begin));
        const int row = batch_.add_causal(sequence, rows, Want::nothing, Want::nothing);
        forward.run(batch_);
        batch_.commit(sequence, row, static_cast<int>(rows.size()));
        batch_.clear();
    }
    return end == n;
}

// In one pass, but for a path that is longer than one.
void ScoreRun::read(const std::vector<Path *> & part, Forward & forward) {
    struct Run {
        Path * path;
        int row, begin, end;
    };
    std::vector<Run> runs;
    do {
        runs.clear();
        int room = max_rows_;
        for (Path * path : part) {
            const int begin = path->n_read;
            const int end = std::min<int>(path->tokens.size(), begin + room);
            if (begin < end) {
                room -= end - begin;
                const std::vector<llama_token> rows(path->tokens.begin() + begin, path->tokens.begin() + end);
                runs.push_back(
                    {path, batch_.add_causal(*path->sequence, rows, Want::logits, Want::logits), begin, end});
            }
        }
        if (!runs.empty()) {
            forward.run(batch_);
        }
        for (const Run & run : runs) {
            keep(*run.path, run.row, run.begin, run.end, forward);
            batch_.commit(*run.path->sequence, run.row, run.end - run.begin);
            run.path->n_read = run.end;
        }
        batch_.clear();
    } while (!runs.empty());
}

// The scores that rows [begin, end) of a path tell; `row` is the first of them in the pass.
void ScoreRun::keep(const Path & path, int row, int begin, int end, const Forward & forward) {
    for (int i = begin; i < end; ++i) {
        const float * logits = forward.logits(row + i - begin);
        for (const size_t c : path.continuations) {
            const std::vector<llama_token> & tokens = query_.continuations[c];
            if (i < static_cast<int>(tokens.size())) {
                scores_[c][i] = logprobs(logits, n_vocab_, excluded_, tokens[i], 0).chosen.logprob;
            }
        }
    }
}

}  // namespace trimode
