// Rows of a prompt that are vectors, not tokens: the encoded cells of pictures. In token lists they stand as ids below
// -1, one for each row, the same for the same content: whatever compares tokens, as the prefix cache does, needs to
// know no more. -1 is LLAMA_TOKEN_NULL.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "llama.h"

namespace trimode {

// A picture's ids are first, first - 1, ..., of n rows; they belong to one content for as long as the entry is there.
struct ImageIds {
    std::string key;  // names the content
    llama_token first;
    int n;

    llama_token last() const { return first - n + 1; }
};

using ImageVectors = std::vector<float>;  // [n, n_embd]

// What holds a picture's ids, and its vectors for the rows of a prefill; these may be missing.
struct ImageHandle {
    std::shared_ptr<const ImageIds> ids;
    std::shared_ptr<const ImageVectors> vectors;
};

class ImageRows {
  public:
    explicit ImageRows(int n_embd) : n_embd_(n_embd) {}

    static bool is_image(llama_token id) { return id <= FIRST; }

    // The ids of a content of n rows. Known content keeps its ids. Throws std::invalid_argument where it has another
    // number of rows, std::runtime_error where no ids are left.
    ImageHandle add(const std::string & key, int n);

    // The same with its vectors; of a content whose vectors somebody still holds these.
    ImageHandle add(const std::string & key, ImageVectors vectors);

    // The vector of a row [n_embd], null for an id that is unknown or whose vectors nobody holds any more.
    const float * find(llama_token id) const;

    // The picture of an id, null for an unknown one.
    std::shared_ptr<const ImageIds> ids_of(llama_token id) const;

    // The rows of pictures among tokens, run by run.
    struct Run {
        int begin, n;  // places in the tokens
        std::string key;
        int first, n_rows;  // of the picture's n_rows those from `first` on
    };
    std::vector<Run> runs(const std::vector<llama_token> & tokens) const;

    int size() const;

    // Forgets pictures that nobody holds and of which `in_use`, given the last and the first id, says no.
    void forget_unused(const std::function<bool(llama_token last, llama_token first)> & in_use);

  private:
    struct Entry {
        std::shared_ptr<const ImageIds> ids;
        std::weak_ptr<const ImageVectors> vectors;
    };
    static constexpr llama_token FIRST = -2;

    Entry & entry(const std::string & key, int n);
    llama_token take_ids(int n);
    const Entry * entry_of(llama_token id) const;

    int n_embd_;
    mutable std::mutex mutex_;
    std::map<llama_token, Entry> by_last_;  // by the lowest id
    std::map<std::string, llama_token> last_by_key_;
    llama_token next_ = FIRST;
};

// The tokens with the ids of pictures in place of `pad`, in order. Throws std::invalid_argument for ids below 0, where
// pads and rows differ in number, and for a picture without vectors; without pictures the tokens are left as they are.
std::vector<llama_token> place_images(std::vector<llama_token> tokens, const std::vector<ImageHandle> & images,
                                      llama_token pad);

}  // namespace trimode
