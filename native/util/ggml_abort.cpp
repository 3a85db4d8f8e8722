#include "util/ggml_abort.h"

#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "ggml.h"

namespace trimode::GgmlAbort {

namespace {

constexpr int EXIT_CODE = 1;

// In ggml's words: memory that the system did not give.
bool is_about_memory(const char * message) {
    return std::strstr(message, "mem_buffer") || std::strstr(message, "alloc") || std::strstr(message, "memory");
}

void end(const char * message) {
    const char * const slash = std::strrchr(message, '/');  // of the path of a source file
    const char * const place = slash ? slash + 1 : message;
    if (is_about_memory(message)) {
        std::fprintf(stderr, "error: out of memory: llama.cpp could not go on (%s)\n", place);
    } else {
        std::fprintf(stderr, "error: llama.cpp could not go on: %s; please report it\n", place);
    }
    std::fflush(stderr);
    _exit(EXIT_CODE);
}

}  // namespace

void install() { ggml_set_abort_callback(end); }

}  // namespace trimode::GgmlAbort
