// Encodes pictures, one at a time: pixels in, rows of the text model's width out.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "ggml-cpp.h"
#include "vision/preprocessing.h"
#include "vision/tower_file.h"
#include "vision/tower_graph.h"

namespace trimode {

struct TowerOptions {
    int n_threads = 0;      // 0: all cores
    std::string device;     // a ggml device by its name; empty: the CPU
    bool exact = true;      // keys and values of the attention in F32 on the CPU; else F16, as on devices
    bool no_alloc = false;  // nothing is read or allocated: to plan the memory
};

// What encode() throws when `stop` said so.
struct Cancelled : std::exception {
    const char * what() const noexcept override { return "the encoding of a picture was cancelled"; }
};

class Tower {
  public:
    // Throws std::runtime_error for a file that is none or damaged, and where memory is missing.
    Tower(const std::string & path, const TowerOptions & options);
    Tower(const Tower &) = delete;
    Tower & operator=(const Tower &) = delete;

    const TowerHparams & hparams() const { return file_.hparams(); }
    // Largest side that a picture may be given, a multiple of 28.
    int largest_side() const { return hparams().image_size / CELL_PIXELS * CELL_PIXELS; }

    // [cells, n_embd_text] of uint8 RGB pixels [height, width, 3]. Calls from several threads wait for each other.
    // `stop` is asked between the graph's nodes, by the calling thread and on the CPU only; true ends the encoding with
    // Cancelled. Throws std::invalid_argument for sides that are out of range, std::runtime_error where memory is
    // missing or values are not finite.
    std::vector<float> encode(const uint8_t * rgb, int width, int height, int max_side,
                              const std::function<bool()> & stop);

    size_t weight_bytes() const { return weight_bytes_; }
    size_t planned_compute_bytes(int max_side) const;  // of a picture of the largest size
    std::string device_name() const;                   // "CPU" or the device's

  private:
    ggml_type kv_type() const { return on_cpu_ && options_.exact ? GGML_TYPE_F32 : GGML_TYPE_F16; }
    void choose_backend();
    void load_weights();
    bool supports_all() const;
    void check_sides(int width, int height, int max_side) const;
    void compute(const TowerGraph & graph, const std::function<bool()> & stop);

    TowerFile file_;
    TowerOptions options_;
    bool on_cpu_ = true;
    ggml_backend_ptr backend_;
    ggml_backend_buffer_ptr buffer_;
    ggml_gallocr_ptr allocator_;
    size_t weight_bytes_ = 0;
    std::mutex mutex_;
};

}  // namespace trimode
