#include "util/log.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <stdexcept>

#include "llama.h"

namespace trimode::Log {

namespace {

constexpr size_t LONGEST_LINE = 1 << 16;

std::atomic<bool> is_verbose{false};
std::atomic<bool> is_json{false};
std::mutex mutex;
std::FILE * file = nullptr;  // null: stderr
std::string error;
std::string line;  // that has not ended yet
ggml_log_level line_level = GGML_LOG_LEVEL_INFO;
thread_local std::string * recorded = nullptr;  // of the `Recording` of this thread

const char * name_of(ggml_log_level level) {
    return level == GGML_LOG_LEVEL_ERROR ? "error" : level == GGML_LOG_LEVEL_WARN ? "warning" : "info";
}

// Control characters are written out; in JSON all that is not ASCII too, which may be no UTF-8.
std::string escaped(const std::string & text) {
    std::string result;
    for (const unsigned char c : text) {
        if (c < 0x20 || c == 0x7F || (is_json && (c >= 0x80 || c == '"' || c == '\\'))) {
            char code[8];
            std::snprintf(code, sizeof code, is_json ? "\\u%04x" : "\\x%02x", c);
            result += code;
        } else {
            result += static_cast<char>(c);
        }
    }
    return result;
}

std::string formatted() {
    const std::string text = escaped(line);
    if (!is_json) {
        return "llama.cpp: " + text + "\n";
    }
    return std::string("{\"level\": \"") + name_of(line_level) + "\", \"message\": \"llama.cpp\", \"text\": \"" + text +
           "\"}\n";
}

// The end of a line is that of a piece of text; what stands before it, newlines too, was written by a file. Pieces
// without an end go on.
void write(ggml_log_level level, std::string text) {
    if (level != GGML_LOG_LEVEL_CONT) {
        line_level = level;
    }
    const bool ends = !text.empty() && text.back() == '\n';
    while (!text.empty() && text.back() == '\n') {
        text.pop_back();
    }
    line += text;
    if (ends || line.size() > LONGEST_LINE) {
        if (!line.empty()) {
            std::fputs(formatted().c_str(), file ? file : stderr);
            std::fflush(file ? file : stderr);
        }
        line.clear();
    }
}

void receive(ggml_log_level level, const char * text, void *) {
    if (recorded) {
        *recorded += text;
    }
    const std::lock_guard<std::mutex> lock(mutex);
    if (level == GGML_LOG_LEVEL_ERROR) {
        error = text;
        while (!error.empty() && error.back() == '\n') {
            error.pop_back();
        }
    }
    if (is_verbose) {
        write(level, text);
    }
}

}  // namespace

void install() { llama_log_set(receive, nullptr); }

void set_verbose(bool verbose) { is_verbose = verbose; }
void set_json(bool json) { is_json = json; }

void set_file(const std::string & path) {
    std::FILE * const opened = path.empty() ? nullptr : std::fopen(path.c_str(), "a");
    if (!path.empty() && !opened) {
        throw std::runtime_error(path + ": the log cannot be written: " + std::strerror(errno));
    }
    const std::lock_guard<std::mutex> lock(mutex);
    if (file) {
        std::fclose(file);
    }
    file = opened;
}

void clear_error() {
    const std::lock_guard<std::mutex> lock(mutex);
    error.clear();
}

std::string last_error() {
    const std::lock_guard<std::mutex> lock(mutex);
    return error.empty() ? "no reason given" : error;
}

// Another package may have set a log of its own. Libllama's is needed here; ggml's, which is set with it, stays whose
// it is.
Recording::Recording() {
    ggml_log_callback log = nullptr;
    void * data = nullptr;
    ggml_log_get(&log, &data);
    llama_log_set(receive, nullptr);
    ggml_log_set(log, data);
    recorded = &text_;
}

Recording::~Recording() { recorded = nullptr; }

}  // namespace trimode::Log
