#include "speculation/draft_tree.h"

#include <algorithm>
#include <cmath>

namespace trimode {

namespace {

constexpr float LEADS[] = {0.25f, 0.5f, 1.0f, 1.5f, 2.0f, 2.5f, 3.0f, 3.5f, 4.0f, 5.0f, 6.0f, 8.0f, 10.0f, 12.0f};
constexpr double SECOND = 0.57;  // how often the second-best token is right where the best one is not, to begin with
constexpr double STRAYED = 1.7;  // log-odds that a draft loses behind a second-best token, to begin with
constexpr double PRIOR = 4.0;    // observations that these weigh
constexpr double KEEP = 0.998;   // of the counts, from one observation to the next

double logistic(double x) { return 1.0 / (1.0 + std::exp(-x)); }

double prior(NodeChances::Kind kind, double lead) {
    switch (kind) {
        case NodeChances::second:
            return SECOND * (1.0 - logistic(lead));
        case NodeChances::strayed:
            return logistic(lead - STRAYED);
        default:
            return logistic(lead);
    }
}

// A draft, and how likely it and all before it are right.
struct Node {
    double promise;
    int after;   // of its run; -1: of the chain
    int length;  // of its run or chain, up to itself
};

// Those before a draft stand before it.
std::vector<Node> by_promise(const NodeChances & chances, const std::vector<float> & leads) {
    const int n = static_cast<int>(leads.size());
    std::vector<Node> nodes;
    double chain = 1.0;
    for (int i = 0; i < n; ++i) {
        double run = chain * chances.chance(NodeChances::second, leads[i]);
        nodes.push_back({run, i, 1});
        for (int k = i + 1; k < n; ++k) {
            run *= chances.chance(NodeChances::strayed, leads[k]);
            nodes.push_back({run, i, k - i + 1});
        }
        chain *= chances.chance(NodeChances::best, leads[i]);
        nodes.push_back({chain, -1, i + 1});
    }
    std::stable_sort(nodes.begin(), nodes.end(), [](const Node & a, const Node & b) { return a.promise > b.promise; });
    return nodes;
}

class Builder {
  public:
    explicit Builder(size_t n_drafts) : lengths_(n_drafts, 0) {}

    void add(const Node & node) { (node.after < 0 ? chain_ : lengths_[node.after]) = node.length; }

    DraftTree tree() const {
        DraftTree tree{chain_, {}};
        for (size_t i = 0; i < lengths_.size(); ++i) {
            if (lengths_[i] > 0) {
                tree.runs.push_back({static_cast<int>(i), lengths_[i]});
            }
        }
        return tree;
    }

  private:
    int chain_ = 0;
    std::vector<int> lengths_;  // of the runs, by `after`
};

}  // namespace

int NodeChances::bin(float lead) {
    return static_cast<int>(std::upper_bound(std::begin(LEADS), std::end(LEADS), lead) - std::begin(LEADS));
}

double NodeChances::chance(Kind kind, float lead) const {
    const Count & count = counts_[kind][bin(lead)];
    return (PRIOR * prior(kind, lead) + count.right) / (PRIOR + count.tried);
}

void NodeChances::observe(Kind kind, float lead, bool right) {
    Count & count = counts_[kind][bin(lead)];
    count.tried = count.tried * KEEP + 1.0;
    count.right = count.right * KEEP + right;
}

DraftTree choose_tree(const NodeChances & chances, const std::vector<float> & leads, int most_rows,
                      const std::function<double(int)> & price) {
    const std::vector<Node> nodes = by_promise(chances, leads);
    const size_t most = std::min<size_t>(nodes.size(), std::max(most_rows - 1, 0));
    size_t kept = 0;
    double promised = 0.0, best = -price(1);
    for (size_t i = 0; i < most; ++i) {
        promised += nodes[i].promise;
        const double gain = promised - price(static_cast<int>(i) + 2);
        if (gain > best) {
            best = gain;
            kept = i + 1;
        }
    }
    Builder builder(leads.size());
    std::for_each(nodes.begin(), nodes.begin() + kept, [&](const Node & node) { builder.add(node); });
    return builder.tree();
}

DraftTree beside_chain(const NodeChances & chances, const std::vector<float> & leads, int n) {
    Builder builder(leads.size());
    for (const Node & node : by_promise(chances, leads)) {
        if (node.after < 0 || n-- > 0) {
            builder.add(node);
        }
    }
    return builder.tree();
}

}  // namespace trimode
