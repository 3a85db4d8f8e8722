// What can be known of passes without running one: their numbers of rows, their operations, and where these run.
#include <algorithm>

#include "forward/forward.h"
#include "model/placement.h"

namespace trimode {

std::vector<int> Forward::row_steps() const {
    std::vector<int> steps;
    if (attention_) {
        return steps;
    }
    for (int rows = 0; rows < options_.n_batch;) {
        rows = padded(rows + 1);
        steps.push_back(rows);
    }
    return steps;
}

std::vector<std::string> Forward::operations(int n_rows) const {
    GraphKey key = largest_key(n_rows);
    key.n_out = n_rows;
    key.lora = key.select = key.confidence = false;
    key.unscaled = graph_options_.fused_stores;  // of rows near the beginning
    const Graph graph = build_graph(model_, cache_, graph_options_, key);
    std::vector<std::string> names;
    for (int i = 0; i < ggml_graph_n_nodes(graph.graph); ++i) {
        names.emplace_back(ggml_op_name(ggml_graph_node(graph.graph, i)->op));
    }
    return names;
}

std::set<std::string> Forward::left_to_cpu() const {
    std::set<std::string> found;
    if (direct_) {
        return found;
    }
    const Graph graph = build_graph(model_, cache_, graph_options_, largest_key(options_.n_batch));
    for (auto backend = backends_.begin(); backend + 1 != backends_.end(); ++backend) {
        ggml_backend_dev_t device = ggml_backend_get_device(backend->get());
        const auto holds = [&](const ggml_tensor * t) {
            const ggml_tensor * root = t && t->view_src ? t->view_src : t;
            return root && root->buffer && device_of(root) == device;
        };
        for (int i = 0; i < ggml_graph_n_nodes(graph.graph); ++i) {
            const ggml_tensor * node = ggml_graph_node(graph.graph, i);
            if (std::any_of(std::begin(node->src), std::end(node->src), holds) &&
                !ggml_backend_supports_op(backend->get(), node)) {
                found.insert(std::string(ggml_op_name(node->op)) + " on " + ggml_backend_dev_name(device));
            }
        }
    }
    return found;
}

}  // namespace trimode
