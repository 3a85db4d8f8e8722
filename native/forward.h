// One forward pass: takes the rows of a batch, runs a ready graph, returns what each row wanted.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <vector>

#include "batch.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "graph.h"
#include "model.h"

namespace trimode {

constexpr int CELL_BUCKET = 256;      // attention reads a multiple of this many cells
constexpr int RESERVED_OUTPUTS = 32;  // output rows that the compute buffer is sized for from the start
constexpr size_t SCHEDULER_NODES = 8192;

struct Output {
    llama_token token = -1;    // argmax, the mask id excluded; the lowest id among equals
    float logit = 0.0f;        // of `token`
    float probability = 0.0f;  // of `token`; only where confidence was wanted
};

struct ForwardOptions {
    int n_batch = 512;
    int n_threads = 0;  // 0: all cores
    bool flash_attn = true;
    bool use_scheduler = false;  // on a CPU the scheduler is not needed; tests compare both paths
};

// Seconds spent so far, and what on.
struct ForwardTimes {
    int64_t passes = 0;
    int64_t rows = 0;
    int64_t graphs = 0;    // built: a shape that was not ready
    double build = 0.0;    // of these graphs
    double inputs = 0.0;   // mask, tokens, positions
    double compute = 0.0;  // the graph
    double outputs = 0.0;  // argmax, probability
};

class Forward {
  public:
    Forward(const Model & model, KvCache & cache, const ForwardOptions & options);
    ~Forward();
    Forward(const Forward &) = delete;
    Forward & operator=(const Forward &) = delete;

    // Throws std::runtime_error when a backend fails.
    void run(const Batch & batch);

    const Output & output(int row) const { return outputs_[row]; }

    // The full logits, n_vocab floats, of a row that wanted something; valid until the next run.
    const float * logits(int row) const { return logits_ + size_t(out_index_.at(row)) * model_.n_vocab(); }

    size_t compute_bytes() const;
    const ForwardTimes & times() const { return times_; }

  private:
    struct Ready;
    Ready & ready(const GraphKey & key);
    void allocate(Ready & ready);
    void compute(Ready & ready);
    void set_inputs(const Graph & graph, const Batch & batch, const GraphKey & key);
    void set_mask(const Graph & graph, const Batch & batch, const GraphKey & key);
    void read_outputs(const Graph & graph, const Batch & batch);
    int min_rows() const;

    const Model & model_;
    KvCache & cache_;
    ForwardOptions options_;
    GraphOptions graph_options_;
    std::vector<ggml_backend_t> backends_;  // the devices that hold weights, the CPU last
    bool direct_ = true;                    // one backend, no scheduler
    ggml_gallocr_t allocator_ = nullptr;    // direct: one buffer shared by all ready graphs
    std::map<GraphKey, std::unique_ptr<Ready>> graphs_;
    std::list<GraphKey> recent_;  // most recently used first

    std::vector<int> out_rows_;    // batch rows with logits, in order
    std::vector<int> out_index_;   // batch row -> index among them, -1
    std::vector<Output> outputs_;  // by batch row
    const float * logits_ = nullptr;
    std::vector<float> staging_;  // logits fetched from a device
    std::vector<char> mask_buffer_, committed_;
    std::vector<int32_t> tokens_, positions_, selected_;
    std::vector<int64_t> cells_;
    std::vector<float> query_scale_, lora_scale_;
    ForwardTimes times_;
};

}  // namespace trimode
