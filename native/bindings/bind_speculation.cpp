// The choice of the draft length, for tests and for whoever wants to study it.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "engine/thread_choice.h"
#include "forward/side_places.h"
#include "speculation/draft_length.h"
#include "speculation/ngram_lookup.h"
#include "util/names.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

namespace {

constexpr std::array<const char *, 3> KINDS = {"best", "second", "strayed"};  // as NodeChances::Kind

std::vector<std::pair<double, double>> cost_table(const PassCost & cost) {
    std::vector<std::pair<double, double>> table;
    for (const PassCost::Point & point : cost.table()) {
        table.emplace_back(point.rows, point.seconds);
    }
    return table;
}

// Of others who do not choose; or as `observe_crowd` told.
Load load_of(const DraftLength & draft_length, const std::optional<double> & rows, double tokens) {
    return rows ? Load{*rows, tokens} : draft_length.load();
}

Cycle choose(DraftLength & self, const Acceptance & acceptance, const std::optional<double> & rows, double tokens,
             const std::string & fusing) {
    return self.choose(acceptance, load_of(self, rows, tokens), {0, parse_fusing(fusing)});
}

Cycle best(const DraftLength & self, const Acceptance & acceptance, const std::optional<double> & rows, double tokens,
           const std::string & fusing) {
    return self.best(acceptance, load_of(self, rows, tokens), {0, parse_fusing(fusing)});
}

std::vector<std::pair<int, int>> branches(const DraftLength & self, const Acceptance & acceptance, int length,
                                          int n_draft, int first, double rows, double tokens) {
    std::vector<std::pair<int, int>> found;
    for (const Branch & b : self.branches({length, true}, n_draft, first, acceptance, {rows, tokens})) {
        found.emplace_back(b.after, b.width);
    }
    return found;
}

std::pair<int, std::vector<std::pair<int, int>>> tree(const DraftLength & self, const Acceptance & acceptance,
                                                      const std::vector<float> & leads, int n_beside, int most_rows,
                                                      double rows, double tokens) {
    const Cycle cycle{static_cast<int>(leads.size()) + 1, false, true};
    const DraftTree found = self.tree(cycle, leads, n_beside, most_rows, acceptance, {rows, tokens});
    std::vector<std::pair<int, int>> runs;
    for (const SideRun & run : found.runs) {
        runs.emplace_back(run.after, run.length);
    }
    return {found.chain, runs};
}

std::pair<int, int> take(SidePlaces & self, int pos, int n) {
    const int place = self.take(pos, n);
    return {place, n};
}

void bind_estimates(nb::module_ & m) {
    nb::class_<ThreadChoice>(m, "ThreadChoice",
                             "Whether one thread is as fast as all (`native/engine/thread_choice.h`); for tests.")
        .def(nb::init<int, bool>(), "n_threads"_a, "measured"_a, "`measured`: choose; else it is always `n_threads`.")
        .def("choose", &ThreadChoice::choose, "rows"_a, "Threads for a pass.")
        .def("observe", &ThreadChoice::observe, "rows"_a, "seconds"_a, "Learn that the pass took so long.")
        .def("trying", &ThreadChoice::trying, "rows"_a,
             "Whether the number is not the choice, to see how long a pass takes.");
    nb::class_<PassCost>(m, "PassCost",
                         "Seconds of a pass by its number of rows, learned from passes. See "
                         "`native/speculation/pass_cost.h`.")
        .def(nb::init<std::vector<int>>(), "steps"_a = std::vector<int>(),
             "Learn from nothing. `steps`: numbers of rows that passes are padded to, ascending.")
        .def("observe", &PassCost::observe, "rows"_a, "seconds"_a, "Learn that a pass took so long.")
        .def("seconds", &PassCost::seconds, "rows"_a, "Estimated seconds of a pass; 0 before the first observation.")
        .def("table", &cost_table, "Rows that were seen and their seconds, ascending.");
    nb::class_<Acceptance>(m, "Acceptance",
                           "How often drafts are accepted, by position. See `native/speculation/acceptance.h`.")
        .def(nb::init<std::vector<double>, double>(), "prior"_a, "memory"_a,
             "Start from a prior. Raises ValueError for an empty one, a rate outside 0 to 1 and a memory that is not "
             "positive.")
        .def_static("published", &Acceptance::published, "Return the rates of the 8B model's card.")
        .def("observe", &Acceptance::observe, "drafted"_a, "accepted"_a, "uncounted"_a = 0,
             "Learn from a cycle; the first `uncounted` of the accepted drafts say nothing about the rates.")
        .def_prop_ro("rates", &Acceptance::rates, "Of each position, where all drafts before it were accepted.")
        .def("tokens", &Acceptance::tokens, "length"_a, "first"_a = 0,
             "Estimate the tokens of a cycle with a block of `length`; `first`: drafts before its own that proved "
             "right.");
    nb::class_<NgramLookup>(
        m, "NgramLookup", "Drafts from what followed the last tokens before. See `native/speculation/ngram_lookup.h`.")
        .def(nb::init<int, llama_token>(), "n_vocab"_a, "mask"_a, "Begin an empty text.")
        .def("add", &NgramLookup::add, "token"_a, "Add a token to the text, as of a prompt: nothing is looked for.")
        .def("push", &NgramLookup::push, "token"_a, "Add a token to the text, and look for what followed it before.")
        .def_prop_ro("match", &NgramLookup::match, "How many tokens at the end stood before; 0: fewer than 3.")
        .def("draft", &NgramLookup::draft, "n"_a, "Return at most `n` tokens that followed them there.");
    nb::class_<NgramAcceptance>(m, "NgramAcceptance",
                                "How often such drafts are right. See `native/speculation/ngram_acceptance.h`.")
        .def(nb::init<double>(), "memory"_a, "Start from low rates; an observation fades after `memory` others.")
        .def("observe", &NgramAcceptance::observe, "match"_a, "right"_a, "Learn from a token behind a match.")
        .def("rate", &NgramAcceptance::rate, "match"_a, "Estimate how often the next token is right.")
        .def("tokens", &NgramAcceptance::tokens, "match"_a, "n"_a,
             "Estimate the tokens of a verification of `n` drafts.");
    nb::class_<SidePlaces>(m, "SidePlaces",
                           "Where rows beside a chain leave keys and values. See `native/forward/side_places.h`.")
        .def(nb::init<int, int, int>(), "first"_a, "n_taken"_a, "end"_a,
             "Begin with the places from `first` up to `end`, of which the first `n_taken` are not free.")
        .def("take", &take, "pos"_a, "n"_a,
             "Take places for `n` tokens from position `pos` on. Returns the first one (-1: none) and their number.")
        .def_prop_ro("extent", &SidePlaces::extent, "Places up to the last one that is taken.");
    nb::class_<Cycle>(m, "Cycle", "How self-speculation goes on. See `native/speculation/cycle.h`.")
        .def(
            "__init__", [](Cycle * self, int length, bool fused) { new (self) Cycle{length, fused}; }, "length"_a,
            "fused"_a = false)
        .def_ro("length", &Cycle::length, "Rows of a block, or masks of a group; 1: nothing is drafted.")
        .def_ro("fused", &Cycle::fused, "Whether one pass verifies and drafts.");
}

void bind_learned(nb::module_ & m) {
    nb::class_<Learned>(m, "Learned", "What the choice of drafts has learned. See `native/speculation/learned.h`.")
        .def(
            "__init__",
            [](Learned * self, std::vector<Learned::Pass> passes, std::vector<Learned::Share> drafts,
               std::vector<Learned::Share> ngrams, double after_rejection) {
                new (self) Learned{std::move(passes), std::move(drafts), std::move(ngrams), after_rejection};
            },
            nb::kw_only(), "passes"_a, "drafts"_a, "ngrams"_a, "after_rejection"_a,
            "Take what another one had. What cannot be is refused where it is restored.")
        .def_ro("passes", &Learned::passes, "Of each number of rows: rows, seconds, how many passes were measured.")
        .def_ro("drafts", &Learned::drafts, "By position in a draft: cycles that reached it, of these accepted.")
        .def_ro("ngrams", &Learned::ngrams, "The same of drafts that were read off the text, by length of the match.")
        .def_ro("after_rejection", &Learned::after_rejection, "See `DraftLength.after_rejection`.");
}

}  // namespace

void bind_speculation(nb::module_ & m) {
    bind_estimates(m);
    bind_learned(m);
    nb::class_<DraftLength>(m, "DraftLength",
                            "Chooses the block length of self-speculation, and whether it is fused. See "
                            "`native/speculation/draft_length.h`.\n\n"
                            "`other_rows`, `other_tokens`: what the other requests bring to an average pass. `fusing`: "
                            "\"never\", \"always\" or \"measured\".")
        .def(
            "__init__",
            [](DraftLength * self, int max_length, std::optional<std::vector<double>> prior,
               const std::vector<int> & steps) {
                new (self) DraftLength(max_length, prior ? *prior : Acceptance::published(), steps);
            },
            "max_length"_a, "prior"_a = nb::none(), "steps"_a = std::vector<int>(),
            "`prior`: rates to begin with; None: the published ones. `steps`: numbers of rows that passes are padded "
            "to, "
            "where they are.")
        .def("new_request", &DraftLength::new_request,
             "Return what a request starts from: the rates of those before it.")
        .def("choose", &choose, "acceptance"_a, "other_rows"_a = nb::none(), "other_tokens"_a = 0.0,
             "fusing"_a = "never",
             "Choose the next cycle: mostly the best one, now and then a trial. `other_rows`, `other_tokens`: of other "
             "requests, which do not choose; None: the crowd of `observe_crowd`.")
        .def("best", &best, "acceptance"_a, "other_rows"_a = nb::none(), "other_tokens"_a = 0.0, "fusing"_a = "never",
             "Return the cycle with the most expected tokens per second; others as for `choose`.")
        .def("branches", &branches, "acceptance"_a, "length"_a, "n_draft"_a, "first"_a = 1, "other_rows"_a = 0.0,
             "other_tokens"_a = 0.0, "List the groups of a verification: behind how many drafts, and how wide.")
        .def("tree", &tree, "acceptance"_a, "leads"_a, "n_beside"_a = -1, "most_rows"_a = 64, "other_rows"_a = 0.0,
             "other_tokens"_a = 0.0,
             "Return what is verified of a draft: how many drafts of the chain, and runs beside it, each as the drafts "
             "before it and its length. `leads`: of the best tokens over the second-best ones, in logits.")
        .def(
            "observe_node",
            [](DraftLength & self, const std::string & kind, float lead, bool right) {
                self.observe_node(parse_name<NodeChances::Kind>(KINDS, kind, "kind", "names"), lead, right);
            },
            "kind"_a, "lead"_a, "right"_a,
            "Learn whether a draft was right: the \"best\" or the \"second\" token of its position, or a best one "
            "that \"strayed\": behind a second-best one. Raises ValueError for another kind.")
        .def(
            "looked_up",
            [](const DraftLength & self, const NgramAcceptance & acceptance, int match, int most, double instead,
               double rows, double tokens) { return self.looked_up(acceptance, match, most, instead, {rows, tokens}); },
            "acceptance"_a, "match"_a, "most"_a, "instead"_a, "other_rows"_a = 0.0, "other_tokens"_a = 0.0,
            "Return how many drafts read off the text to verify, 0 for none. `match`: of how many tokens; `most`: "
            "follow "
            "them; `instead`: tokens per second without.")
        .def("observe_pass", &DraftLength::observe_pass, "rows"_a, "seconds"_a, "chosen"_a = true,
             "Learn that a pass took so long; 0: it says nothing of other passes. `chosen`: it served a cycle that "
             "`choose` chose.")
        .def("expect_crowd", &DraftLength::expect_crowd, "n_choosing"_a, "n_new"_a = 0, "n_fixed"_a = 0,
             "Take who shares the next pass: requests that choose, `n_new` of which begin, and others.")
        .def(
            "observe_crowd",
            [](DraftLength & self, std::array<int, 3> choosing, std::array<int, 3> fixed) {
                self.observe_crowd({choosing[0], choosing[1], choosing[2]}, {fixed[0], fixed[1], fixed[2]});
            },
            "choosing"_a, "fixed"_a = std::array<int, 3>{},
            "Learn what requests that choose, and others, brought to a pass: their number, rows and tokens.")
        .def_prop_ro(
            "load",
            [](const DraftLength & self) {
                const Load load = self.load();
                return std::pair{load.rows, load.tokens};
            },
            "Rows and tokens that others are expected to bring to a request's next pass.")
        .def("moved", &DraftLength::moved, "before"_a, "after"_a, "acceptance"_a,
             "Learn that a request has chosen another cycle than before.")
        .def("observe_cycle", &DraftLength::observe_cycle, "drafted"_a, "accepted"_a, "uncounted"_a = 0,
             "Learn from a cycle, as `Acceptance.observe` does.")
        .def("observe_rejection", &DraftLength::observe_rejection, "predicted"_a,
             "Learn whether the first mask behind a rejected draft predicted the target's token.")
        .def("learned", &DraftLength::learned, "Return what is known, for `restore` of another one.")
        .def("restore", &DraftLength::restore, "learned"_a,
             "Begin with what another one has learned. Raises ValueError, and changes nothing, for what cannot be.")
        .def_prop_ro("after_rejection", &DraftLength::after_rejection,
                     "How often the first mask behind a rejected draft predicts the target's token.")
        .def_prop_ro("acceptance", &DraftLength::acceptance, nb::rv_policy::reference_internal, "Of all requests.")
        .def_prop_ro("cost", &DraftLength::cost, nb::rv_policy::reference_internal, "Of passes, by rows.")
        .def_prop_ro("lengths", &DraftLength::lengths, "Block lengths to choose from, ascending.");
}
