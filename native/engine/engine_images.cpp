// Rows of images in prompts: their ids, and what is known of them.
#include <set>
#include <stdexcept>

#include "engine/engine.h"
#include "forward/embedding.h"

namespace trimode {

void Engine::check_images() const {
    if (!options_.images) {
        throw std::invalid_argument("the engine was made without images");
    }
    if (!can_embed(model_.token_embd())) {
        throw std::invalid_argument("the token embedding is not in main memory: images cannot stand beside its rows");
    }
}

ImageHandle Engine::add_image(const std::string & key, ImageVectors vectors) {
    check_images();
    forget_unused_images();
    return images_.add(key, std::move(vectors));
}

ImageHandle Engine::add_image(const std::string & key, int n) {
    check_images();
    forget_unused_images();
    return images_.add(key, n);
}

// Images that neither a request, nor a sequence in the cache, nor the caller needs. Requests hold theirs.
void Engine::forget_unused_images() {
    if (images_.size() < most_images_) {
        return;
    }
    const std::lock_guard<std::mutex> lock(step_mutex_);
    std::set<llama_token> used;
    for (const CachedSequence & sequence : sequences_.sequences()) {
        for (const llama_token token : sequence.tokens) {
            if (ImageRows::is_image(token)) {
                used.insert(token);
            }
        }
    }
    images_.forget_unused([&](llama_token last, llama_token first) {
        const auto at = used.lower_bound(last);
        return at != used.end() && *at <= first;
    });
}

std::vector<Engine::ImageRun> Engine::image_runs(const std::vector<llama_token> & tokens) const {
    std::vector<ImageRun> runs;
    const int n = static_cast<int>(tokens.size());
    for (int begin = 0; begin < n; ++begin) {
        const auto ids = ImageRows::is_image(tokens[begin]) ? images_.ids_of(tokens[begin]) : nullptr;
        if (!ids) {
            continue;
        }
        int end = begin + 1;
        while (end < n && tokens[end] == tokens[end - 1] - 1 && tokens[end] >= ids->last()) {
            ++end;
        }
        runs.push_back({begin, end - begin, ids->key, ids->first - tokens[begin], ids->n});
        begin = end - 1;
    }
    return runs;
}

}  // namespace trimode
