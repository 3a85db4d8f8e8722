#include "decoders/ar.h"

namespace trimode {

int ArDecoder::plan_decode(Batch & batch) {
    return batch.add_causal(*request_.sequence, {last_}, Want::nothing, sampled());
}

void ArDecoder::consume_decode(Batch & batch, const Forward & forward) {
    batch.commit(*request_.sequence, first_row_, 1);
    emit(forward, first_row_, sample(forward, first_row_, request_.sequence->size()));
}

}  // namespace trimode
