// The choice of the draft length, for tests and for whoever wants to study it. Documented in pytrimode/_native.pyi.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "engine/thread_choice.h"
#include "speculation/draft_length.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace trimode;

std::vector<std::pair<double, double>> cost_table(const PassCost & cost) {
    std::vector<std::pair<double, double>> table;
    for (const PassCost::Point & point : cost.table()) {
        table.emplace_back(point.rows, point.seconds);
    }
    return table;
}

void bind_speculation(nb::module_ & m) {
    nb::class_<ThreadChoice>(m, "ThreadChoice")
        .def(nb::init<int, bool>(), "n_threads"_a, "measured"_a)
        .def("choose", &ThreadChoice::choose, "rows"_a)
        .def("observe", &ThreadChoice::observe, "rows"_a, "seconds"_a)
        .def("trying", &ThreadChoice::trying, "rows"_a);
    nb::class_<PassCost>(m, "PassCost")
        .def(nb::init<>())
        .def("observe", &PassCost::observe, "rows"_a, "seconds"_a)
        .def("seconds", &PassCost::seconds, "rows"_a)
        .def("table", &cost_table);
    nb::class_<Acceptance>(m, "Acceptance")
        .def(nb::init<std::vector<double>, double>(), "prior"_a, "memory"_a)
        .def_static("published", &Acceptance::published)
        .def("observe", &Acceptance::observe, "drafted"_a, "accepted"_a, "uncounted"_a = 0)
        .def_prop_ro("rates", &Acceptance::rates)
        .def("tokens", &Acceptance::tokens, "length"_a, "first"_a = 0);
    nb::class_<Cycle>(m, "Cycle").def_ro("length", &Cycle::length).def_ro("fused", &Cycle::fused);
    nb::class_<DraftLength>(m, "DraftLength")
        .def(
            "__init__",
            [](DraftLength * self, int max_length, std::optional<std::vector<double>> prior) {
                new (self) DraftLength(max_length, prior ? *prior : Acceptance::published());
            },
            "max_length"_a, "prior"_a = nb::none())
        .def("new_request", &DraftLength::new_request)
        .def(
            "choose",
            [](DraftLength & self, const Acceptance & acceptance, double rows, double tokens,
               const std::string & fusing) {
                return self.choose(acceptance, {rows, tokens}, {0, parse_fusing(fusing)});
            },
            "acceptance"_a, "other_rows"_a = 0.0, "other_tokens"_a = 0.0, "fusing"_a = "never")
        .def(
            "best",
            [](const DraftLength & self, const Acceptance & acceptance, double rows, double tokens,
               const std::string & fusing) { return self.best(acceptance, {rows, tokens}, {0, parse_fusing(fusing)}); },
            "acceptance"_a, "other_rows"_a = 0.0, "other_tokens"_a = 0.0, "fusing"_a = "never")
        .def(
            "branches",
            [](const DraftLength & self, const Acceptance & acceptance, int length, int n_draft, int first, double rows,
               double tokens) {
                std::vector<std::pair<int, int>> found;
                for (const Branch & b : self.branches({length, true}, n_draft, first, acceptance, {rows, tokens})) {
                    found.emplace_back(b.after, b.width);
                }
                return found;
            },
            "acceptance"_a, "length"_a, "n_draft"_a, "first"_a = 1, "other_rows"_a = 0.0, "other_tokens"_a = 0.0)
        .def("observe_pass", &DraftLength::observe_pass, "rows"_a, "seconds"_a, "chosen"_a = true)
        .def("observe_cycle", &DraftLength::observe_cycle, "drafted"_a, "accepted"_a, "uncounted"_a = 0)
        .def("observe_rejection", &DraftLength::observe_rejection, "predicted"_a)
        .def_prop_ro("after_rejection", &DraftLength::after_rejection)
        .def_prop_ro("acceptance", &DraftLength::acceptance, nb::rv_policy::reference_internal)
        .def_prop_ro("cost", &DraftLength::cost, nb::rv_policy::reference_internal)
        .def_prop_ro("lengths", &DraftLength::lengths);
}
