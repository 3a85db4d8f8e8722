#include "model/token_trie.h"

#include <algorithm>

namespace trimode {

namespace {

bool continues(unsigned char byte) { return (byte >> 6) == 2; }

int bytes_of_character(unsigned char lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

// Whether the bytes are UTF-8, but for a character that began before them or ends behind them.
bool is_regular(const std::string & text) {
    if (text.empty() || text.find('\0') != std::string::npos) {
        return false;
    }
    size_t i = 0;
    while (i < text.size() && continues(text[i])) {
        ++i;
    }
    while (i < text.size()) {
        const size_t end = std::min(text.size(), i + bytes_of_character(text[i]));
        if (continues(text[i]) || !std::all_of(text.begin() + i + 1, text.begin() + end, continues)) {
            return false;
        }
        i = end;
    }
    return true;
}

}  // namespace

TokenTrie::TokenTrie(std::vector<std::string> texts) {
    byte_tokens_.fill(-1);
    for (llama_token token = 0; token < static_cast<llama_token>(texts.size()); ++token) {
        std::string & text = texts[token];
        if (!is_regular(text)) {
            irregular_.push_back(token);
            continue;
        }
        if (text.size() == 1) {
            byte_tokens_[static_cast<unsigned char>(text[0])] = token;
        }
        entries_.push_back({std::move(text), token});
    }
    std::sort(entries_.begin(), entries_.end(), [](const Entry & a, const Entry & b) { return a.text < b.text; });
}

}  // namespace trimode
