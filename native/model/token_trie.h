// The tokens of a vocabulary by their bytes: what a grammar refuses for a beginning, it refuses for all that begins so.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "llama.h"

namespace trimode {

class TokenTrie {
  public:
    // The text of each token; empty for one that ends a generation.
    explicit TokenTrie(std::vector<std::string> texts);

    struct Entry {
        std::string text;
        llama_token token;
    };

    // In the order of their bytes. Without the irregular ones.
    const std::vector<Entry> & entries() const { return entries_; }

    // Tokens of which a grammar does not judge byte by byte: those that end a generation, and texts that are not UTF-8
    // (they may begin or end within a character).
    const std::vector<llama_token> & irregular() const { return irregular_; }

    // The token that is this one byte; -1: none.
    llama_token byte_token(unsigned char byte) const { return byte_tokens_[byte]; }

  private:
    std::vector<Entry> entries_;
    std::vector<llama_token> irregular_;
    std::array<llama_token, 256> byte_tokens_;
};

}  // namespace trimode
