// What is used of llguidance's C API (https://github.com/guidance-ai/llguidance, parser/llguidance.h), declared here
// and found in the shared library of its Python wheel: grammars without Python, and so without its lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace trimode::llg {

struct Tokenizer;  // opaque
struct Matcher;    // opaque

// LlgParserLimits, LlgConstraintInit and LlgTokenizerInitV2 of version 1.9.
struct Limits {
    size_t max_items_in_row;
    uint64_t initial_lexer_fuel;
    uint64_t step_lexer_fuel;
    size_t step_max_items;
    size_t max_lexer_states;
    size_t max_grammar_size;
    bool precompute_large_lexemes;
    bool verbose_errors;
};

struct MatcherInit {
    const Tokenizer * tokenizer;
    uint32_t log_buffer_level;
    uint32_t log_stderr_level;
    bool ff_tokens_ok;
    bool backtrack_ok;
    Limits limits;
};

struct TokenizerInit {
    size_t struct_size;
    uint32_t vocab_size;
    uint32_t tok_eos;
    const uint32_t * token_lens;
    const uint8_t * token_bytes;
    const char * tokenizer_json;
    bool tokenize_assumes_string;
    size_t (*tokenize_fn)(const void *, const uint8_t *, size_t, uint32_t *, size_t);
    bool use_approximate_greedy_tokenize_fn;
    const void * tokenize_user_data;
    const char * const * slices;
    const uint32_t * tok_eos_extra;
    uint32_t tok_eos_extra_count;
};

// Functions that return int32_t: 0, or -1 for an error that matcher_get_error tells.
struct Api {
    const char * (*get_version)();
    void (*constraint_init_set_defaults)(MatcherInit *, const Tokenizer *);
    Tokenizer * (*new_tokenizer_v2)(const TokenizerInit *, char * error, size_t error_size);
    void (*free_tokenizer)(Tokenizer *);
    Matcher * (*new_matcher)(const MatcherInit *, const char * type, const char * data);
    Matcher * (*clone_matcher)(const Matcher *);
    void (*free_matcher)(Matcher *);
    const char * (*matcher_get_error)(Matcher *);
    int32_t (*matcher_compute_mask_into)(Matcher *, uint32_t * mask, size_t n_bytes);
    size_t (*matcher_get_mask_byte_size)(const Matcher *);
    int32_t (*matcher_consume_token)(Matcher *, uint32_t token);
    int32_t (*matcher_rollback)(Matcher *, size_t n_tokens);
    bool (*matcher_is_accepting)(Matcher *);
    int32_t (*matcher_validate_tokens)(Matcher *, const uint32_t * tokens, size_t n_tokens);
};

// Loads the library, once; `path`: of the wheel's extension module. Throws std::runtime_error where it cannot be
// loaded, lacks a function, or lays its structs out in another way than they are declared here.
void load(const std::string & path);

// Throws std::runtime_error before load().
const Api & api();

}  // namespace trimode::llg
