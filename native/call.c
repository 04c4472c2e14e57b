/* The one call of call_api.h: from Python into compiled kernels. */
#include "call_api.h"

typedef int64_t (*tr_kernel_4)(int64_t, int64_t, int64_t, int64_t);

int64_t tr_call_4(int64_t kernel, int64_t a, int64_t b, int64_t c, int64_t d) {
    return ((tr_kernel_4)(uintptr_t)kernel)(a, b, c, d);
}
