#include "decoders/self_spec.h"

#include <algorithm>

namespace trimode {

namespace {

// Passes of plain AR between choices: without drafts nothing is learned, and on small models choosing costs time.
constexpr int PLAIN_STRETCH = 8;
constexpr int MAX_TREE_ROWS = 64;  // of a verification: what more could bring is rarely needed

}  // namespace

SelfSpecDecoder::SelfSpecDecoder(const Model & model, Request & request, std::unique_ptr<Sampler> sampler, int n_batch)
    : Decoder(model, request, std::move(sampler), n_batch) {
    if (request.options.looks_up()) {
        lookup_.emplace(model.n_vocab(), model.mask_token());
    }
}

void SelfSpecDecoder::begin(const Forward & forward, int row) {
    Decoder::begin(forward, row);
    acceptance_ = request_.draft_length->new_request();
    if (lookup_) {
        lookup_acceptance_ = request_.draft_length->new_lookup();
        for (const llama_token token : request_.prompt) {
            lookup_->add(token);
        }
        lookup_->push(last_);
    }
    go_on();
}

// Emits a token, and compares it with what followed the text before.
void SelfSpecDecoder::write(const Forward & forward, int row, llama_token token) {
    emit(forward, row, token);
    if (!lookup_) {
        return;
    }
    if (lookup_->match() > 0) {
        const bool right = lookup_->draft(1) == std::vector<llama_token>{token};
        lookup_acceptance_->observe(lookup_->match(), right);
        request_.draft_length->observe_lookup(lookup_->match(), right);
    }
    lookup_->push(token);
}

void SelfSpecDecoder::go_on() {
    if (finished()) {
        return;
    }
    choose_cycle();
    looked_up_ = draft_.empty() && look_up();
    n_verified_ = static_cast<int>(draft_.size());
    phase_ = draft_.empty() && !cycle_.fused && cycle_.length > 1 ? Phase::draft : Phase::verify;
    branches_.clear();
    if (cycle_.fused && !looked_up_) {
        choose_branches();
    }
}

// Drafts what followed before, where that is wanted; false where nothing did.
bool SelfSpecDecoder::look_up() {
    const int length = lookup_ && lookup_->match() > 0 ? lookup_length() : 0;
    if (length <= 0) {
        return false;
    }
    draft_ = lookup_->draft(length);
    const auto end = std::find_if(draft_.begin(), draft_.end(), [&](llama_token token) { return is_end(token); });
    if (end != draft_.end()) {
        draft_.erase(end + 1, draft_.end());
    }
    if (!plain_argmax_) {
        for (const llama_token token : draft_) {
            proposals_.push_back(Distribution::certain(token));
        }
    }
    known_drafts_ = uncounted_ = 0;
    request_.draft = draft_;
    return !draft_.empty();
}

// No more than are still wanted, less the token behind them.
int SelfSpecDecoder::lookup_length() const {
    DraftLength & choice = *request_.draft_length;
    const int room = std::min(request_.remaining(), request_.max_length() - request_.sequence->size());
    const int most = std::min(room, choice.most_rows()) - 1;
    if (request_.options.ngram > 0) {
        return std::min(most, request_.options.ngram);
    }
    const int available = static_cast<int>(lookup_->draft(most).size());
    const double instead = choice.rate(cycle_, *acceptance_, choice.load());
    return choice.looked_up(*lookup_acceptance_, lookup_->match(), available, instead, choice.load());
}

// A cycle emits at most as many tokens as its block is long: never more than are still wanted.
void SelfSpecDecoder::choose_cycle() {
    const int length = request_.options.block_length;
    const Fusing fusing = request_.options.fusing;
    const bool by_price = request_.options.has_trees() && request_.options.tree_nodes < 0;
    if (!request_.options.chooses_cycles()) {
        cycle_ = {length, fusing == Fusing::always};
        cycle_.tree = by_price && !cycle_.fused;
    } else if (cycle_.fused && !draft_.empty() && !started_) {
        started_ = true;  // what was begun is carried through: a draft, and the pass that verifies it
        return;
    } else if (plain_left_ > 0) {
        --plain_left_;  // cycle_ is plain AR
    } else {
        const Cycle before = cycle_;
        cycle_ = request_.draft_length->choose(*acceptance_, request_.draft_length->load(), {length, fusing, by_price});
        request_.draft_length->moved(before, cycle_, *acceptance_);
        plain_left_ = cycle_.length == 1 ? PLAIN_STRETCH - 1 : 0;
    }
    started_ = !draft_.empty();
    if (!cycle_.fused) {
        cycle_.length = std::min(cycle_.length, request_.remaining());
    }
}

// Behind an accepted end nothing is drafted. No group is wider than what is still wanted behind it, or than the pass.
void SelfSpecDecoder::choose_branches() {
    const int n_draft = static_cast<int>(draft_.size());
    std::vector<Branch> wanted{{n_draft, cycle_.length}};
    if (request_.options.block_length == 0) {
        const Load load = request_.draft_length->load();
        wanted = request_.draft_length->branches(cycle_, n_draft, known_drafts_, *acceptance_, load);
    }
    const bool ends = n_draft > 0 && is_end(draft_.back());
    int room = std::min(n_batch(), request_.max_length() - request_.sequence->size());
    room -= static_cast<int>(verified().size());
    for (Branch branch : wanted) {
        branch.width = std::min({branch.width, request_.remaining() - branch.after - 1, room});
        if (branch.width > 1 && !(ends && branch.after == n_draft)) {
            room -= branch.width;
            branches_.push_back(branch);
        }
    }
}

// Of the draft that has just been made. What follows an end is not drafted, in a run neither: the target says it.
void SelfSpecDecoder::choose_tree() {
    DraftLength & choice = *request_.draft_length;
    const int n_draft = static_cast<int>(draft_.size());
    const int size = request_.sequence->size();
    const int room = std::min(request_.max_length() - size, n_batch());
    const DraftTree tree = choice.tree(cycle_, leads_, request_.options.tree_nodes, std::min(room, MAX_TREE_ROWS),
                                       *acceptance_, choice.load());
    n_verified_ = tree.chain;
    const int n_rows = static_cast<int>(verified().size());
    const int n_plain = n_draft - is_end(draft_.back());
    SidePlaces places(size, n_rows, request_.max_length());
    for (const SideRun & run : tree.runs) {
        int n = std::min(run.length, std::max(n_plain - run.after, 1));
        if (is_end(second_[run.after]) || run.after >= n_rows) {
            continue;
        }
        const int32_t place = places.take(size + 1 + run.after, n);
        if (n > 0) {
            runs_.push_back({run.after, {second_[run.after]}, place, -1});
            const auto behind = draft_.begin() + run.after + 1;
            runs_.back().tokens.insert(runs_.back().tokens.end(), behind, behind + (n - 1));
        }
    }
    cells_ = places.extent();
}

// The seed and the drafts to verify. Nothing follows an end-of-generation token: its own logits are not needed.
std::vector<llama_token> SelfSpecDecoder::verified() const {
    std::vector<llama_token> tokens{last_};
    tokens.insert(tokens.end(), draft_.begin(), draft_.begin() + n_verified_);
    if (n_verified_ > 0 && is_end(tokens.back())) {
        tokens.pop_back();
    }
    return tokens;
}

int SelfSpecDecoder::decode_rows() const {
    if (phase_ == Phase::draft) {
        return cycle_.length;
    }
    int rows = static_cast<int>(verified().size());
    for (const Branch & branch : branches_) {
        rows += branch.width;
    }
    for (const Run & run : runs_) {
        rows += static_cast<int>(run.tokens.size());
    }
    return rows;
}

int SelfSpecDecoder::decode_cells() const { return runs_.empty() ? decode_rows() : cells_; }

int SelfSpecDecoder::plan_decode(Batch & batch) {
    const llama_token mask = model_.mask_token();
    const bool lora = request_.options.use_lora;
    if (phase_ == Phase::draft) {
        std::vector<llama_token> block(cycle_.length, mask);
        block[0] = last_;
        rows_ = cycle_.length;
        const Want want = may_have_tree() ? Want::runner_up : drafted();
        return batch.add_block(*request_.sequence, block, Want::nothing, want, lora);
    }
    const std::vector<llama_token> tokens = verified();
    rows_ = static_cast<int>(tokens.size());
    const int first = batch.add_causal(*request_.sequence, tokens, sampled(), sampled());
    branch_rows_.clear();
    request_.stats.fused_passes += !branches_.empty();
    for (const Branch & branch : branches_) {
        const std::vector<llama_token> group(branch.width, mask);
        branch_rows_.push_back(batch.add_branch(first + branch.after, group, Want::token, drafted(), lora));
    }
    for (Run & run : runs_) {
        run.first_row = batch.add_run(first + run.after, run.tokens, run.place, sampled());
    }
    return first;
}

void SelfSpecDecoder::consume_decode(Batch & batch, const Forward & forward) {
    if (phase_ == Phase::verify) {
        verify(batch, forward);
        go_on();
        return;
    }
    take_draft(forward, first_row_, rows_);
    known_drafts_ = uncounted_ = 0;
    phase_ = Phase::verify;
    n_verified_ = static_cast<int>(draft_.size());
    if (may_have_tree() && !draft_.empty()) {
        choose_tree();
    }
}

// From the rows behind `first_row`, which stands where the last token that was emitted does. The draft ends at a row
// that proposes nothing, as damaged weights of mask or LoRA leave it: the text is the target's own then.
void SelfSpecDecoder::take_draft(const Forward & forward, int first_row, int n_rows) {
    planned_drafts_ = n_rows - 1;
    ++n_drafts_;
    sampler_->begin_draft();
    for (int i = 1; i < n_rows; ++i) {
        const int row = first_row + i;
        if (plain_argmax_) {
            draft_.push_back(forward.output(row).token);
            if (may_have_tree()) {
                take_second(forward.output(row), request_.sequence->size() + i, i - 1);
            }
        } else {
            Distribution proposal = sampler_->proposal(forward.logits(row));
            if (!proposal.is_valid()) {
                break;
            }
            proposals_.push_back(std::move(proposal));
            draft_.push_back(sampler_->draw_draft(proposals_.back(), request_.sequence->size() + i, n_drafts_));
            sampler_->accept_draft(draft_.back());
        }
        if (is_end(draft_.back())) {
            break;  // what a draft says behind the end is not worth verifying
        }
    }
    request_.draft = draft_;
}

// The second-best token of draft `i`, to stand at `position`, and the lead of the best one.
void SelfSpecDecoder::take_second(const Output & output, int32_t position, int i) {
    const SimulatedAcceptance & simulated = request_.options.simulated;
    const float lead = simulated ? simulated.lead(request_.options.sampler.seed, position, i) : output.lead;
    second_.push_back(output.second);
    leads_.push_back(lead >= 0.0f ? lead : 0.0f);  // of damaged weights it may be no number
}

// What stands where draft `i` would, by `row` before it. `strayed`: of a run.
Sampler::Verdict SelfSpecDecoder::check(const Forward & forward, int row, int i, bool strayed) {
    if (const llama_token forced = thinking_.forced(); forced >= 0) {
        return {forced == draft_[i], forced};
    }
    const int32_t position = request_.sequence->size() + i + 1;
    if (const SimulatedAcceptance & simulated = request_.options.simulated) {
        const bool accepted = simulated.accepts(request_.options.sampler.seed, position, known_drafts_ + i, strayed);
        return {accepted, accepted ? draft_[i] : best(forward, row).token};
    }
    if (plain_argmax_) {
        const llama_token token = best(forward, row).token;
        return {token == draft_[i], token};
    }
    const Distribution target = sampler_->target(forward.logits(row));
    return sampler_->verify(target, proposals_[i], draft_[i], position);
}

void SelfSpecDecoder::verify(Batch & batch, const Forward & forward) {
    const int n_draft = static_cast<int>(draft_.size());
    int accepted = 0;
    int emitted = 0;
    // Each row's target depends on the tokens emitted before it (penalties, grammar): one after the other.
    for (bool go_on = true; go_on && !finished() && emitted < rows_; ++emitted) {
        const int row = first_row_ + emitted;
        if (emitted < n_draft) {
            const Sampler::Verdict verdict = check(forward, row, emitted);
            observe_nodes(verdict, emitted, /*strayed=*/false);
            write(forward, row, verdict.token);
            accepted += verdict.accepted;
            go_on = verdict.accepted;
        } else {
            write(forward, row, sample(forward, row, request_.sequence->size() + emitted + 1));
        }
    }
    const Run * run = finished() ? nullptr : run_behind(emitted - 1);
    const int followed = run ? follow(forward, *run) : 0;
    batch.commit(*request_.sequence, first_row_, emitted);  // the last token emitted is not in the cache
    if (followed > 0) {
        batch.commit_run(*request_.sequence, run->first_row, followed, forward.cache());
    }
    if (planned_drafts_ > 0) {
        // Of a chain that was cut off the target tells one draft more.
        const int drafted = accepted > n_verified_ ? accepted : planned_drafts_;
        learn(known_drafts_ + drafted, known_drafts_ + accepted, uncounted_);
    }
    count_drafts(std::min(accepted, n_verified_), followed);
    if (cycle_.tree && !second_.empty() && !finished()) {
        request_.draft_length->observe_tree(cycle_, *acceptance_, decode_rows(), emitted + followed);
    }
    draft_.clear();
    proposals_.clear();
    runs_.clear();
    second_.clear();
    leads_.clear();
    planned_drafts_ = 0;
    if (!finished()) {
        take_branch(forward, emitted - 1, n_draft);
    }
}

// The run that branches off there and begins with the token that was emitted last; null where there is none.
const SelfSpecDecoder::Run * SelfSpecDecoder::run_behind(int accepted) const {
    const auto run = std::find_if(runs_.begin(), runs_.end(), [&](const Run & r) { return r.after == accepted; });
    return run != runs_.end() && second_is_right_ ? &*run : nullptr;
}

// Emits what the rows of a run tell, up to the first that tells another token than the run has. Returns the number of
// rows.
int SelfSpecDecoder::follow(const Forward & forward, const Run & run) {
    const int length = static_cast<int>(run.tokens.size());
    int n = 0;
    for (bool go_on = true; go_on && !finished() && n < length; ++n) {
        const int row = run.first_row + n;
        const int i = run.after + 1 + n;
        if (i < static_cast<int>(draft_.size())) {
            const Sampler::Verdict verdict = check(forward, row, i, /*strayed=*/true);
            observe_nodes(verdict, i, /*strayed=*/true);
            write(forward, row, verdict.token);
            go_on = verdict.accepted;
        } else {
            write(forward, row, sample(forward, row, request_.sequence->size() + i + 1));
        }
    }
    return n;
}

// What the token at the place of draft `i` tells of second-best tokens and of leads.
void SelfSpecDecoder::observe_nodes(const Sampler::Verdict & verdict, int i, bool strayed) {
    if (second_.empty()) {
        return;
    }
    DraftLength & choice = *request_.draft_length;
    choice.observe_node(strayed ? NodeChances::strayed : NodeChances::best, leads_[i], verdict.accepted);
    if (!strayed) {
        second_is_right_ = !verdict.accepted && is_second(verdict.token, i);
        choice.observe_node(NodeChances::second, leads_[i], second_is_right_);
    }
}

// Whether a token that is not draft `i` is the second-best one there.
bool SelfSpecDecoder::is_second(llama_token token, int i) const {
    const SimulatedAcceptance & simulated = request_.options.simulated;
    return simulated ? simulated.accepts_second(request_.options.sampler.seed, request_.sequence->size() + i + 1)
                     : token == second_[i];
}

// `followed`: rows of a run, which are drafts that proved right.
void SelfSpecDecoder::count_drafts(int accepted, int followed) {
    int beside = 0;
    for (const Run & run : runs_) {
        beside += static_cast<int>(run.tokens.size());
    }
    Stats & stats = request_.stats;
    stats.drafted += n_verified_ + beside;
    stats.accepted += accepted + followed;
    stats.ngram_drafted += looked_up_ ? n_verified_ : 0;
    stats.ngram_accepted += looked_up_ ? accepted : 0;
    stats.tree_drafted += beside;
    stats.tree_accepted += followed;
    stats.cycles += !draft_.empty();
}

// The draft of the group behind `accepted` drafts, if there is one and it was made for the token that was emitted last.
void SelfSpecDecoder::take_branch(const Forward & forward, int accepted, int n_draft) {
    const auto ready =
        std::find_if(branches_.begin(), branches_.end(), [&](const Branch & b) { return b.after == accepted; });
    if (ready == branches_.end()) {
        return;
    }
    const int row = branch_rows_[ready - branches_.begin()];
    const bool rejected = accepted < n_draft;
    const bool predicted = predicts_last(forward.output(row).token, rejected);
    if (rejected) {
        request_.draft_length->observe_rejection(predicted);
    } else if (!predicted) {
        learn(ready->width, 0);
    }
    if (predicted) {
        take_draft(forward, row, ready->width);
        known_drafts_ = 1;
        uncounted_ = rejected;  // behind a rejection the first mask is right less often
    }
}

// Whether the first mask of a group predicted the token that was emitted there.
bool SelfSpecDecoder::predicts_last(llama_token predicted, bool rejected) const {
    const SimulatedAcceptance & simulated = request_.options.simulated;
    return simulated ? simulated.predicts(request_.options.sampler.seed, request_.sequence->size(), rejected)
                     : predicted == last_;
}

// Drafts behind the end of the text count as rejected: they cost as much.
void SelfSpecDecoder::learn(int drafted, int accepted, int uncounted) {
    acceptance_->observe(drafted, accepted, uncounted);
    if (request_.options.use_lora) {
        request_.draft_length->observe_cycle(drafted, accepted, uncounted);
    }
}

}  // namespace trimode
