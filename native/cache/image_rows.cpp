#include "cache/image_rows.h"

#include <limits>
#include <stdexcept>

namespace trimode {

ImageHandle ImageRows::add(const std::string & key, int n) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Entry & found = entry(key, n);
    return {found.ids, found.vectors.lock()};
}

ImageHandle ImageRows::add(const std::string & key, ImageVectors vectors) {
    if (vectors.empty() || vectors.size() % n_embd_ != 0) {
        throw std::invalid_argument("an image's vectors must be rows of " + std::to_string(n_embd_) + " numbers");
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    Entry & found = entry(key, static_cast<int>(vectors.size() / n_embd_));
    auto held = found.vectors.lock();
    if (!held) {
        held = std::make_shared<const ImageVectors>(std::move(vectors));
        found.vectors = held;
    }
    return {found.ids, held};
}

ImageRows::Entry & ImageRows::entry(const std::string & key, int n) {
    if (n < 1) {
        throw std::invalid_argument("an image has at least one row");
    }
    const auto known = last_by_key_.find(key);
    if (known != last_by_key_.end()) {
        Entry & found = by_last_[known->second];
        if (found.ids->n != n) {
            throw std::invalid_argument("the image " + key + " has " + std::to_string(found.ids->n) + " rows, not " +
                                        std::to_string(n));
        }
        return found;
    }
    const llama_token first = take_ids(n);
    const auto ids = std::make_shared<const ImageIds>(ImageIds{key, first, n});
    last_by_key_[key] = ids->last();
    return by_last_[ids->last()] = Entry{ids, {}};
}

// n ids in a row that no picture has, below the last ones given out; from the top again where these come to an end.
llama_token ImageRows::take_ids(int n) {
    constexpr int64_t LOWEST = std::numeric_limits<llama_token>::min();
    for (const bool again : {false, true}) {
        int64_t first = again ? FIRST : next_;
        for (bool moved = true; moved && first - n + 1 >= LOWEST;) {
            moved = false;
            const auto taken = by_last_.upper_bound(static_cast<llama_token>(first));
            if (taken != by_last_.begin() && std::prev(taken)->second.ids->first >= first - n + 1) {
                first = int64_t(std::prev(taken)->first) - 1;
                moved = true;
            }
        }
        if (first - n + 1 >= LOWEST) {
            next_ = static_cast<llama_token>(std::max(first - n, LOWEST));
            return static_cast<llama_token>(first);
        }
    }
    throw std::runtime_error("too many images are held: no ids are left for the rows of another");
}

const ImageRows::Entry * ImageRows::entry_of(llama_token id) const {
    const auto above = by_last_.upper_bound(id);
    if (above == by_last_.begin()) {
        return nullptr;
    }
    const Entry & found = std::prev(above)->second;
    return id <= found.ids->first ? &found : nullptr;
}

const float * ImageRows::find(llama_token id) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Entry * found = entry_of(id);
    const auto vectors = found ? found->vectors.lock() : nullptr;
    return vectors ? vectors->data() + size_t(found->ids->first - id) * n_embd_ : nullptr;
}

std::shared_ptr<const ImageIds> ImageRows::ids_of(llama_token id) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Entry * found = entry_of(id);
    return found ? found->ids : nullptr;
}

std::vector<ImageRows::Run> ImageRows::runs(const std::vector<llama_token> & tokens) const {
    std::vector<Run> runs;
    const int n = static_cast<int>(tokens.size());
    for (int begin = 0; begin < n; ++begin) {
        const auto ids = is_image(tokens[begin]) ? ids_of(tokens[begin]) : nullptr;
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

int ImageRows::size() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<int>(by_last_.size());
}

void ImageRows::forget_unused(const std::function<bool(llama_token last, llama_token first)> & in_use) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto at = by_last_.begin(); at != by_last_.end();) {
        const std::shared_ptr<const ImageIds> & ids = at->second.ids;
        if (ids.use_count() > 1 || in_use(ids->last(), ids->first)) {
            ++at;
            continue;
        }
        last_by_key_.erase(ids->key);
        at = by_last_.erase(at);
    }
}

std::vector<llama_token> place_images(std::vector<llama_token> tokens, const std::vector<ImageHandle> & images,
                                      llama_token pad) {
    for (const ImageHandle & image : images) {
        if (!image.vectors) {
            throw std::invalid_argument("the vectors of image " + image.ids->key + " are not there");
        }
    }
    size_t image = 0;
    int row = 0;
    for (llama_token & token : tokens) {
        if (token < 0) {
            throw std::invalid_argument("token id " + std::to_string(token) + " is not in the vocabulary");
        }
        if (images.empty() || token != pad) {
            continue;
        }
        if (image == images.size()) {
            throw std::invalid_argument("the prompt has more places for rows of images than the images have rows");
        }
        token = images[image].ids->first - row;
        if (++row == images[image].ids->n) {
            ++image;
            row = 0;
        }
    }
    if (image < images.size()) {
        throw std::invalid_argument("the prompt has fewer places for rows of images than the images have rows");
    }
    return tokens;
}

}  // namespace trimode
