// What a request may ask of this model and this engine.
#pragma once

#include <vector>

#include "cache/image_rows.h"
#include "decoders/request.h"
#include "engine/engine_options.h"
#include "engine/logits_query.h"
#include "engine/score_query.h"

namespace trimode {

// All of its checks throw std::invalid_argument that names what is wrong, the value found and what would do.
class RequestValidator {
  public:
    // `exact_rows`: of passes that decode, see EngineOptions; 0: rows as they come.
    RequestValidator(const Model & model, const EngineOptions & options, int exact_rows, const ImageRows & images)
        : model_(model), options_(options), exact_rows_(exact_rows), images_(images) {}

    void check(const std::vector<llama_token> & prompt, const RequestOptions & options) const;
    void check(const LogitsQuery & query) const;
    void check(const ScoreQuery & query) const;

    // At least one token, no more than the context, each in the vocabulary or a row of a known image.
    void check_tokens(const std::vector<llama_token> & tokens) const;

    // Checks the scales of the model's adapters; zeros at the end go, so that equal ones look alike.
    void settle(std::vector<float> & lora_scales) const;

  private:
    void check_options(const RequestOptions & options) const;
    void check_infill(const RequestOptions & options, int n_prompt) const;
    void check_exact(const RequestOptions & options) const;

    const Model & model_;
    const EngineOptions & options_;
    int exact_rows_;
    const ImageRows & images_;
};

}  // namespace trimode
