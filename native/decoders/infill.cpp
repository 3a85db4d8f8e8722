#include "decoders/infill.h"

namespace trimode {

InfillDecoder::InfillDecoder(const Model & model, Request & request, std::unique_ptr<Sampler> sampler, int n_batch)
    : DiffusionDecoder(model, request, std::move(sampler), n_batch) {
    last_ = request.prompt.back();
}

// The last prompt token stands in the block, as the seed of every block does.
int InfillDecoder::prefill_size() const { return static_cast<int>(request_.prompt.size()) - 1; }

int InfillDecoder::next_block_length() const {
    return 1 + request_.remaining() + static_cast<int>(request_.options.suffix.size());
}

void InfillDecoder::start_block() {
    DiffusionDecoder::start_block();
    const std::vector<llama_token> & suffix = request_.options.suffix;
    for (size_t i = 0; i < suffix.size(); ++i) {
        decide(static_cast<int>(block_.size() - suffix.size() + i), suffix[i], 1.0f);
    }
}

}  // namespace trimode
