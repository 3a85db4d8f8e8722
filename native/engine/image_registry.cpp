#include "engine/image_registry.h"

#include <set>
#include <stdexcept>

#include "forward/embedding.h"

namespace trimode {

namespace {

constexpr int MANY_IMAGES = 1024;  // from so many on, those that nobody needs are looked for

std::set<llama_token> image_ids(const PrefixCache & prefixes) {
    std::set<llama_token> ids;
    for (const CachedSequence & sequence : prefixes.sequences()) {
        for (const llama_token token : sequence.tokens) {
            if (ImageRows::is_image(token)) {
                ids.insert(token);
            }
        }
    }
    return ids;
}

}  // namespace

ImageHandle ImageRegistry::add(const std::string & key, ImageVectors vectors) {
    check_enabled();
    forget_unused();
    return rows_.add(key, std::move(vectors));
}

ImageHandle ImageRegistry::add(const std::string & key, int n) {
    check_enabled();
    forget_unused();
    return rows_.add(key, n);
}

void ImageRegistry::check_enabled() const {
    if (!enabled_) {
        throw std::invalid_argument("the engine was made without images");
    }
    if (!can_embed(model_.token_embd())) {
        throw std::invalid_argument("the token embedding is not in main memory: images cannot stand beside its rows");
    }
}

// Images that neither a request, nor a sequence in the cache, nor the caller needs. Requests hold theirs.
void ImageRegistry::forget_unused() {
    if (rows_.size() < MANY_IMAGES) {
        return;
    }
    const std::lock_guard<std::mutex> lock(prefixes_mutex_);
    const std::set<llama_token> cached = image_ids(prefixes_);
    rows_.forget_unused([&](llama_token last, llama_token first) {
        const auto at = cached.lower_bound(last);
        return at != cached.end() && *at <= first;
    });
}

}  // namespace trimode
