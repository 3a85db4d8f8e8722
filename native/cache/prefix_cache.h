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
    uint64_t scope = 0;      // of its request: only those of the same one share it
    bool pinned = false;     // idle: goes last
    uint64_t last_used = 0;  // the least recently used idle one goes first
    int n_whole = 0;         // with set_whole_batches: its first tokens, those of its prompt's whole batches
    std::vector<uint8_t> k, v;
};

class PrefixCache {
  public:
    explicit PrefixCache(KvCache & cache) : cache_(cache), pages_(cache.n_cells() / PAGE_CELLS) {}

    // On a device, where the company of a row has an influence on its bits: of a prompt whole batches alone are shared,
    // and nothing that was generated or loaded. All prompts must be computed in passes of their own of `n_batch` rows.
    void set_whole_batches(int n_batch);

    // A new running sequence with the longest beginning of the prompt that is there, its last token left out (its
    // logits are needed), and room for `n_room` tokens. On the CPU a cell's bits depend on the tokens up to it alone,
    // not on the pass that wrote it: whose it was does not matter. Whole pages get one more holder; the cells of the
    // last, partial one are copied. Null where there is no room: the running ones have it. `force` drops pinned
    // sequences too. Nothing is taken from sequences of another `scope`, nor from those of other `lora_scales`.
    CachedSequence * acquire(const std::vector<llama_token> & prompt, int n_room, bool force,
                             const std::vector<float> & lora_scales = {}, uint64_t scope = 0);

    // Makes room for n tokens, at the expense of idle sequences. Where no page lies behind its last one the sequence
    // moves. False: the cells of the others are needed; it is suspended then.
    bool grow(CachedSequence & sequence, int n);

    void suspend(CachedSequence & sequence);
    // With room for n tokens; `force` as for acquire. False: still suspended.
    bool resume(CachedSequence & sequence, int n, bool force = false);

    // The request is over: its first n tokens stay for others, those behind them and their cells go.
    void finish(CachedSequence * sequence, int n, bool pinned);

    void clear();  // drops the idle ones, pinned or not

    // The idle sequence of scope 0 with the longest common beginning and its length; null where none has any.
    const CachedSequence * find_idle(const std::vector<llama_token> & tokens, const std::vector<float> & lora_scales,
                                     int & n_common) const;

    // Adds an idle sequence of scope 0 whose cells are written by the caller; null without room.
    CachedSequence * add_idle(const std::vector<llama_token> & tokens, const std::vector<float> & lora_scales);

    const std::list<CachedSequence> & sequences() const { return sequences_; }
    const Pages & pages() const { return pages_; }
    int n_idle() const;  // pages that only idle sequences hold which are not pinned

  private:
    int reusable(const CachedSequence & source, const std::vector<llama_token> & prompt) const;
    int n_available(int32_t kept_pages, const CachedSequence * kept) const;
    bool evict();
    void unpin();
    bool make_room(int n_free);
    void truncate(CachedSequence & sequence, int n);
    void share(CachedSequence & source, CachedSequence & sequence, int n);
    void copy_last_page(CachedSequence & sequence);
    bool extend(CachedSequence & sequence, int n);
    void erase(const CachedSequence * sequence);

    KvCache & cache_;
    Pages pages_;
    int whole_ = 0;  // tokens of which only multiples are shared; 0: any number
    std::list<CachedSequence> sequences_;
    uint64_t clock_ = 0;
};

}  // namespace trimode
