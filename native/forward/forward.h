// One forward pass: takes the rows of a batch, runs a ready graph, returns what each row wanted.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "cache/image_rows.h"
#include "forward/batch.h"
#include "forward/graph.h"
#include "ggml-cpp.h"
#include "model/model.h"
#include "util/reduce.h"

namespace trimode {

constexpr int RESERVED_OUTPUTS = 32;   // output rows that the compute buffer is sized for from the start
constexpr int SCHEDULER_NODES = 8192;  // at least

struct Output {
    llama_token token = -1;    // argmax, the mask id excluded; the lowest id among equals
    float logit = 0.0f;        // of `token`
    float probability = 0.0f;  // of `token`; only where confidence was wanted
    // Only where the runner-up was wanted: the second-best token, and how far its logit lies below that of `token`.
    llama_token second = -1;
    float lead = 0.0f;
};

struct ForwardOptions {
    int n_batch = 512;
    int n_threads = 0;  // 0: all cores
    bool flash_attn = true;
    bool use_scheduler = false;  // on a CPU the scheduler is not needed; tests compare both paths
    bool device_graphs = false;  // on a CPU too, graphs as for a device: for tests
    // These are for devices: see GraphOptions; and the numbers of rows that passes are padded to, ascending, powers of
    // two where there are none and beyond the last.
    bool fused_stores = true;
    std::vector<int> row_steps;
    const ImageRows * images = nullptr;  // vectors of the rows of images; null: no pass has any
};

// Seconds spent so far, and what on.
struct ForwardTimes {
    int64_t passes = 0;
    int64_t rows = 0;
    int64_t graphs = 0;     // built: a shape that was not ready
    double build = 0.0;     // of these graphs
    double inputs = 0.0;    // mask, tokens, positions
    double compute = 0.0;   // the graph
    double outputs = 0.0;   // argmax, probability
    int64_t cells = 0;      // that attention read, in each layer; once for rows of a sequence that read together
    int64_t bytes_in = 0;   // written to inputs
    int64_t bytes_out = 0;  // read from outputs; of logits on the CPU, which are read where they are, none
};

class Forward {
  public:
    Forward(const Model & model, KvCache & cache, const ForwardOptions & options);
    ~Forward();
    Forward(const Forward &) = delete;
    Forward & operator=(const Forward &) = delete;

    // CPU threads of the passes to come; 0: one for each logical processor. What they compute does not depend on it.
    void use_threads(int n_threads);

    // Throws std::runtime_error when a backend fails.
    void run(const Batch & batch);

    const Output & output(int row) const { return outputs_[row]; }
    KvCache & cache() const { return cache_; }

    // The logits, n_vocab floats, of a row that wanted something; valid until the next run. Where candidates were
    // wanted of a device, these and -infinity. Else a device's logits are fetched, row by row, when asked for.
    const float * logits(int row) const;
    // Softmax probability, without temperature, of a token of such a row, of a candidate if these were wanted.
    float probability(int row, llama_token token) const;

    // Of the buffers that are there, and by device (nullptr: the CPU) of those that there can be.
    size_t compute_bytes() const;
    std::vector<std::pair<ggml_backend_dev_t, size_t>> planned_bytes() const;
    const ForwardTimes & times() const { return times_; }

    // Whether the last pass took as long as the next ones of its kind: on a device the first few passes of a graph load
    // kernels and record what is replayed later.
    bool settled() const { return settled_; }

    // The numbers of rows that passes are padded to; empty on a CPU, where they are not.
    std::vector<int> row_steps() const;
    // Of the graph of a pass that decodes `n_rows` rows, all of them wanted: the operations in their order.
    std::vector<std::string> operations(int n_rows) const;

    // Operations on a device's weights or cache that it has no kernel for, such as "FLASH_ATTN_EXT on CUDA0" with some
    // cache types: the CPU computes them in every pass, from copies.
    std::set<std::string> left_to_cpu() const;

  private:
    struct Ready;
    Ready & ready(const GraphKey & key);
    void allocate(Ready & ready);
    void compute(Ready & ready);
    void set_inputs(const Graph & graph, const Batch & batch, const GraphKey & key);
    void set_ints(const Graph & graph, const Batch & batch, const GraphKey & key);
    void set_floats(const Graph & graph, const Batch & batch, const GraphKey & key);
    void set_mask(const Graph & graph, const Batch & batch, const GraphKey & key);
    void set_attention(const Batch & batch, int n_rows);
    void set_tensor(ggml_tensor * tensor, const void * data);
    void get_tensor(const ggml_tensor * tensor, void * data, size_t offset, size_t size) const;
    void read_outputs(const Graph & graph, const Batch & batch);
    void read_reduced(const Graph & graph);
    void set_runner_up(size_t index);
    Top second_candidate(size_t index, llama_token best) const;
    void make_token_bias(ggml_backend_dev_t device);
    bool device_can_run_alone(const GraphKey & largest) const;
    bool knows_candidates(const GraphKey & largest) const;
    const float * spread_candidates(size_t index) const;
    GraphKey largest_key(int n_rows) const;
    ggml_backend_sched_ptr new_scheduler(ggml_cgraph * graph) const;
    void keep_products(ggml_backend_sched_t scheduler, ggml_cgraph * graph) const;
    void make_room(const GraphKey & key);
    void drop(std::list<GraphKey>::iterator at);
    int padded(int n_rows) const;

    const Model & model_;
    KvCache & cache_;
    ForwardOptions options_;
    GraphOptions graph_options_;
    std::vector<ggml_backend_ptr> backends_;  // the devices that hold weights, the CPU last
    int n_threads_ = -1;                      // of the CPU's backend
    bool direct_ = true;                      // one backend, the first, has everything: no scheduler
    bool candidates_on_device_ = false;
    ggml_context_ptr bias_context_;
    ggml_backend_buffer_ptr bias_buffer_;
    ggml_gallocr_ptr allocator_;  // direct: one buffer shared by all ready graphs
    size_t planned_ = 0;          // bytes of it
    std::map<GraphKey, std::unique_ptr<Ready>> graphs_;
    std::list<GraphKey> recent_;  // most recently used first

    std::vector<int> out_rows_;             // batch rows with logits, in order
    std::vector<int> out_index_;            // batch row -> index among them, -1
    std::vector<Output> outputs_;           // by batch row
    const ggml_tensor * logits_ = nullptr;  // of the last pass
    mutable std::vector<float> staging_;    // logits fetched from a device
    mutable std::vector<char> fetched_;     // which of its rows are there
    std::vector<llama_token> candidates_;   // of the output rows, where these were computed on the device
    std::vector<float> candidate_logits_;
    std::vector<char> sparse_;  // which output rows want no more than these
    std::vector<char> mask_buffer_;
    std::unique_ptr<Attention> attention_;  // of a model that is on the CPU
    std::vector<AttentionRow> attention_rows_;
    std::vector<int32_t> ints_;
    std::vector<float> floats_;
    std::vector<llama_token> top_;  // by output row
    std::vector<float> top_logit_, top_probability_;
    mutable ForwardTimes times_;
    bool settled_ = true;
};

}  // namespace trimode
