// The sequences in the cache: those of running requests, and finished ones that wait for a prompt that begins alike.
#pragma once

#include <list>
#include <vector>

#include "cache/kv_cache.h"
#include "cache/sequence.h"

namespace trimode {

struct CachedSequence : Sequence {
    enum class State {
        running,
        suspended,  // its cells are in host memory
        idle,       // of a finished request
    };
    State state = State::running;
    bool pinned = false;     // idle: goes last
    int n_given = 0;         // tokens that were given; those behind them were generated
    uint64_t last_used = 0;  // the least recently used idle one goes first
    std::vector<uint8_t> k, v;
};

// A prompt that looks for its beginning in the cache.
struct Wanted {
    const std::vector<llama_token> & tokens;
    int n_batch;
    int n_kernel;        // its kernels are those of a prompt of so many tokens
    int n_room;          // cells that it needs to begin
    bool exact = false;  // as PrefixCache's, for this prompt alone
};

class PrefixCache {
  public:
    // `exact`: reuse only what a prefill of the prompt itself would write, bit by bit.
    PrefixCache(KvCache & cache, bool exact) : cache_(cache), pages_(cache.n_cells() / PAGE_CELLS), exact_(exact) {}

    // Of what may be shared by the first rule below, whole batches only: the rows of a part of one had other company.
    void set_whole_batches(bool on) { whole_batches_ = on; }

    // A new running sequence with the longest beginning of the prompt that is there, its last token left out (its
    // logits are needed), and room for `n_room`. What may be shared:
    // - cells with the kernels that the prompt's own prefill would use, of any sequence;
    // - unless `exact`, all that is common with a finished one if that tells a conversation that goes on: a generated
    //   token is part of it, or TILE_ROWS tokens more than by the first rule.
    // So no request has an influence on the bits of another that has nothing to do with it.
    // Whole pages get one more holder; the cells of the last, partial one are copied.
    // Null where there is no room: the running ones have it. `force` drops pinned sequences too.
    CachedSequence * begin(const Wanted & wanted, bool force);

    // Makes room for n tokens, at the expense of idle sequences. Where no page lies behind its last one the sequence
    // moves. False: the cells of the others are needed; it is suspended then.
    bool grow(CachedSequence & sequence, int n);

    void suspend(CachedSequence & sequence);
    // With room for n tokens; `force` as for begin. False: still suspended.
    bool resume(CachedSequence & sequence, int n, bool force = false);

    // The request is over: its first n tokens stay for others, those behind them and their cells go.
    void finish(CachedSequence * sequence, int n, bool pinned);

    void clear();  // drops the idle ones, pinned or not

    // The idle sequence with the longest common beginning and its length; null where none has any.
    const CachedSequence * find_idle(const std::vector<llama_token> & tokens, int & n_common) const;

    // Adds an idle sequence whose cells are written by the caller; null without room.
    CachedSequence * add_idle(const std::vector<llama_token> & tokens, Kernel kernel);

    const std::list<CachedSequence> & sequences() const { return sequences_; }
    const Pages & pages() const { return pages_; }
    int n_idle() const;  // pages that only idle sequences hold which are not pinned

  private:
    int reusable(const CachedSequence & source, const Wanted & wanted) const;
    int n_available(int32_t kept_pages, const CachedSequence * kept) const;
    bool evict();
    void unpin();
    bool make_room(int n_free);
    void truncate(CachedSequence & sequence, int n);
    void take_rest(CachedSequence & sequence, const CachedSequence & source, int n);
    bool extend(CachedSequence & sequence, int n);
    void erase(const CachedSequence * sequence);
    bool is_beginning(const CachedSequence & a, const CachedSequence & b) const;

    KvCache & cache_;
    Pages pages_;
    bool exact_;
    bool whole_batches_ = false;
    std::list<CachedSequence> sequences_;
    uint64_t clock_ = 0;
};

}  // namespace trimode
