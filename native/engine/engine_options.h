// How an engine is set up, and the check of it.
#pragma once

#include <string>
#include <vector>

#include "ggml.h"
#include "model/model.h"

namespace trimode {

struct EngineOptions {
    int n_ctx = 4096;            // cells, shared by all requests: one alone may have them all
    int n_batch = 512;           // rows in a pass
    int n_ubatch = 128;          // of these, rows of prompts while other requests decode
    int n_threads = 0;           // 0: one for each logical processor
    int n_threads_batch = 0;     // of passes with rows of prompts; 0: n_threads
    bool fewer_threads = false;  // one is enough where it is as fast, see ThreadChoice
    int n_parallel = 1;          // requests that run side by side
    int max_queue = -1;          // more that may wait; -1: any number
    std::string type_k = "f16";
    std::string type_v = "f16";
    bool flash_attn = true;
    bool use_scheduler = false;
    bool device_graphs = false;  // these two: see ForwardOptions
    bool fused_stores = true;    // these two: see ForwardOptions
    std::vector<int> row_steps;
    // On a device, whose kernels change with the number of rows: every pass that decodes has so many rows (see Batch),
    // prompts have passes of their own, and of a prompt whole batches are reused or nothing. So a request that is
    // alone gives the same text whatever is drafted. 0: rows as they come. A CPU needs none of it.
    int exact_rows = 0;
    bool images = false;  // prompts may have rows of images
};

// The options, unchanged. Throws std::invalid_argument that names the one that is impossible.
EngineOptions checked(const Model & model, EngineOptions options);

// The type of the cache's keys or values by its name; `option` is what an error calls it. Throws std::invalid_argument.
ggml_type parse_cache_type(const std::string & name, const char * option, bool flash_attn, int head_dim);

}  // namespace trimode
