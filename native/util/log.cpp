#include "util/log.h"

#include <atomic>
#include <cstdio>
#include <mutex>

#include "llama.h"

namespace trimode::Log {

namespace {

std::atomic<bool> is_verbose{false};
std::mutex mutex;
std::string error;

void receive(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) {
        const std::lock_guard<std::mutex> lock(mutex);
        error = text;
        while (!error.empty() && error.back() == '\n') {
            error.pop_back();
        }
    }
    if (is_verbose) {
        std::fputs(text, stderr);
    }
}

}  // namespace

void install() { llama_log_set(receive, nullptr); }
void set_verbose(bool verbose) { is_verbose = verbose; }

void clear_error() {
    const std::lock_guard<std::mutex> lock(mutex);
    error.clear();
}

std::string last_error() {
    const std::lock_guard<std::mutex> lock(mutex);
    return error.empty() ? "no reason given" : error;
}

}  // namespace trimode::Log
