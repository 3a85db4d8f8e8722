// The images that prompts may have: ids for their rows, for as long as somebody needs them.
#pragma once

#include <mutex>
#include <string>

#include "cache/image_rows.h"
#include "cache/prefix_cache.h"
#include "model/model.h"

namespace trimode {

class ImageRegistry {
  public:
    // `enabled`: whether prompts may have images. `prefixes`, to be looked at under `prefixes_mutex`: what still needs
    // ids beside the holders of handles.
    ImageRegistry(const Model & model, bool enabled, const PrefixCache & prefixes, std::mutex & prefixes_mutex)
        : model_(model),
          enabled_(enabled),
          rows_(model.hparams().n_embd),
          prefixes_(prefixes),
          prefixes_mutex_(prefixes_mutex) {}

    // Ids for the rows of an image, named by its content, with its vectors [n, n_embd] or, for cells that are in a
    // saved state, without. Throws std::invalid_argument of an engine without images, and as ImageRows::add does.
    ImageHandle add(const std::string & key, ImageVectors vectors);
    ImageHandle add(const std::string & key, int n);

    bool enabled() const { return enabled_; }
    const ImageRows & rows() const { return rows_; }

  private:
    void check_enabled() const;
    void forget_unused();

    const Model & model_;
    bool enabled_;
    ImageRows rows_;
    const PrefixCache & prefixes_;
    std::mutex & prefixes_mutex_;
};

}  // namespace trimode
