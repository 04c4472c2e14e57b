/* Calls the compiled kernel at an address with four words: cffi compiles the call to this function, while a call to a
   pointer that Python cast goes through libffi, which takes several times as long. */
#ifndef TICKRING_CALL_API_H
#define TICKRING_CALL_API_H
#include <stdint.h>
int64_t tr_call_4(int64_t kernel, int64_t a, int64_t b, int64_t c, int64_t d);
#endif
