#include "util/lost_file.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

namespace trimode::LostFile {

namespace {

constexpr int EXIT_CODE = 1;
constexpr size_t LONGEST_LINE = 4096 + 128;  // of /proc/self/maps: a path and what stands before it

// Only what may be called in a handler of signals: no allocation, no stdio.

void say(const char * text, size_t n) {
    while (n > 0) {
        const ssize_t done = write(STDERR_FILENO, text, n);
        if (done <= 0) {
            return;
        }
        text += done;
        n -= static_cast<size_t>(done);
    }
}

void say(const char * text) { say(text, std::strlen(text)); }

// The hexadecimal number at `text`, which is moved behind it and the character that follows.
uintptr_t number(const char *& text) {
    uintptr_t value = 0;
    for (;; ++text) {
        const char c = *text;
        if (c >= '0' && c <= '9') {
            value = value * 16 + (c - '0');
        } else if (c >= 'a' && c <= 'f') {
            value = value * 16 + (c - 'a' + 10);
        } else {
            text += c != '\0';
            return value;
        }
    }
}

// The path in a line of /proc/self/maps that holds the address; null where it is another's, or no file's.
const char * path_in(const char * line, uintptr_t address) {
    const uintptr_t begin = number(line);
    const uintptr_t end = number(line);
    return address >= begin && address < end ? std::strchr(line, '/') : nullptr;
}

// Calls `found` with the path of the mapped file that holds the address; false where there is none.
bool find(uintptr_t address, void (*found)(const char * path)) {
    const int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return false;
    }
    static char line[LONGEST_LINE];  // the stack may be short
    size_t n = 0;
    char c;
    while (read(file, &c, 1) == 1) {
        if (c != '\n' && n + 1 < sizeof line) {
            line[n++] = c;
            continue;
        }
        line[n] = '\0';
        n = 0;
        if (const char * path = path_in(line, address)) {
            close(file);
            found(path);
            return true;
        }
    }
    close(file);
    return false;
}

void tell(const char * path) {
    say("error: ");
    for (; *path; ++path) {
        const char c = static_cast<unsigned char>(*path) < 0x20 ? '?' : *path;
        say(&c, 1);
    }
    say(": it was cut or cannot be read any more while it was in use: to replace a file, write a new one beside it and "
        "rename that\n");
}

void handle(int number, siginfo_t * info, void *) {
    if (info->si_code > 0 && find(reinterpret_cast<uintptr_t>(info->si_addr), tell)) {
        _exit(EXIT_CODE);
    }
    signal(number, SIG_DFL);  // comes again when the instruction is repeated
    if (info->si_code <= 0) {
        raise(number);
    }
}

}  // namespace

void install() {
    struct sigaction before = {};
    if (sigaction(SIGBUS, nullptr, &before) != 0 || (before.sa_flags & SA_SIGINFO) || before.sa_handler != SIG_DFL) {
        return;
    }
    struct sigaction ours = {};
    ours.sa_sigaction = handle;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&ours.sa_mask);
    sigaction(SIGBUS, &ours, nullptr);
}

}  // namespace trimode::LostFile
