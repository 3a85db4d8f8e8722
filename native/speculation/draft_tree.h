// Which drafts of a block a verification checks: the best token of each position, which make the chain, and beside it
// runs that begin with a second-best one.
#pragma once

#include <array>
#include <functional>
#include <vector>

namespace trimode {

// Where the right token is not the best one of a draft's position it is mostly the second-best (in 57 % of the first
// rejections, as published for the 8B). Such a run stands behind the first `after` drafts of the chain: the second-best
// token of the next position, and the chain's own drafts behind that.
struct SideRun {
    int after = 0;
    int length = 0;
};

struct DraftTree {
    int chain = 0;              // drafts of the chain
    std::vector<SideRun> runs;  // by `after`
};

// How often a draft is right where all tokens before it are, by how far the best token of its position leads the second
// (logits). Learned from every verification; counts fade.
class NodeChances {
  public:
    enum Kind {
        best,    // the best token behind best ones
        second,  // the second-best token behind best ones
        strayed  // the best token behind others, of which one was second-best
    };

    double chance(Kind kind, float lead) const;
    void observe(Kind kind, float lead, bool right);

  private:
    static constexpr int N_LEADS = 15;
    struct Count {
        double tried = 0.0, right = 0.0;
    };
    static int bin(float lead);

    std::array<std::array<Count, N_LEADS>, 3> counts_;
};

// Of a chain with these leads, position by position, as many of the most promising drafts as are worth their rows:
// `price` is what a pass with so many rows costs, in tokens. `most_rows`: of the verification.
DraftTree choose_tree(const NodeChances & chances, const std::vector<float> & leads, int most_rows,
                      const std::function<double(int)> & price);

// The whole chain, and the `n` most promising drafts beside it.
DraftTree beside_chain(const NodeChances & chances, const std::vector<float> & leads, int n);

}  // namespace trimode
