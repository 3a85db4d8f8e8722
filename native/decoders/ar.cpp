#include "ar.h"

namespace trimode {

int ArDecoder::plan_decode(Batch & batch) {
    return batch.add_causal(*request_.sequence, {last_}, Want::nothing, Want::token);
}

void ArDecoder::consume_decode(Batch & batch, const Forward & forward) {
    batch.commit(*request_.sequence, first_row_, 1);
    emit(forward.output(first_row_).token);
}

}  // namespace trimode
