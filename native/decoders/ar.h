// AR: one token a pass.
#pragma once

#include "decoders/decoder.h"

namespace trimode {

class ArDecoder : public Decoder {
  public:
    using Decoder::Decoder;

  protected:
    int decode_rows() const override { return 1; }
    int plan_decode(Batch & batch) override;
    void consume_decode(Batch & batch, const Forward & forward) override;
};

}  // namespace trimode
