/* The two ways of native/crc32.h, and the choice between them at load time. */
#include "crc32.h"

#include <string.h>

#define POLYNOMIAL UINT32_C(0xEDB88320)
#define LANE_BYTES 16

static uint32_t tables[8][256];
static int has_clmul;

__attribute__((constructor)) static void prepare(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
        tables[0][i] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t i = 0; i < 256; i++) {
            const uint32_t before = tables[k - 1][i];
            tables[k][i] = tables[0][before & 0xFF] ^ (before >> 8);
        }
#if defined(__x86_64__)
    __builtin_cpu_init();
    has_clmul = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
}

uint32_t tr_crc32_portable(uint32_t crc, const char *text, size_t n) {
    crc = ~crc;
    while (n >= 8) {
        uint32_t low;
        uint32_t high;
        memcpy(&low, text, 4);
        memcpy(&high, text + 4, 4);
        low ^= crc;
        crc = tables[7][low & 0xFF] ^ tables[6][(low >> 8) & 0xFF] ^ tables[5][(low >> 16) & 0xFF] ^
              tables[4][low >> 24] ^ tables[3][high & 0xFF] ^ tables[2][(high >> 8) & 0xFF] ^
              tables[1][(high >> 16) & 0xFF] ^ tables[0][high >> 24];
        text += 8;
        n -= 8;
    }
    while (n--)
        crc = tables[0][(crc ^ (uint8_t)*text++) & 0xFF] ^ (crc >> 8);
    return ~crc;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define X128_PLUS_32 INT64_C(0x01751997d0)
#define X128_MINUS_32 INT64_C(0x00ccaa009e)
#define X64 INT64_C(0x0163cd6124)
#define P INT64_C(0x01db710641)
#define P_INVERSE INT64_C(0x01f7011641)

__attribute__((target("pclmul,sse4.1"))) static uint32_t fold(uint32_t start, const char *lane, size_t lanes) {
    const __m128i step = _mm_set_epi64x(X128_MINUS_32, X128_PLUS_32);
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)lane);
    x = _mm_xor_si128(x, _mm_set_epi32(0, 0, 0, (int)start));
    for (size_t i = 1; i < lanes; i++) {
        const __m128i next = _mm_loadu_si128((const __m128i *)(const void *)(lane + LANE_BYTES * i));
        const __m128i low = _mm_clmulepi64_si128(x, step, 0x00);
        const __m128i high = _mm_clmulepi64_si128(x, step, 0x11);
        x = _mm_xor_si128(_mm_xor_si128(low, high), next);
    }
    const __m128i mask_32 = _mm_set_epi32(0, 0, 0, -1);
    /* 128 bits to 96: the low half folds over the high one; then to 64. */
    __m128i t = _mm_clmulepi64_si128(x, step, 0x10);
    x = _mm_xor_si128(_mm_srli_si128(x, 8), t);
    t = _mm_clmulepi64_si128(_mm_and_si128(x, mask_32), _mm_set_epi64x(0, X64), 0x00);
    x = _mm_xor_si128(_mm_srli_si128(x, 4), t);
    /* Barrett: the multiple of P that takes the upper half away. */
    const __m128i barrett = _mm_set_epi64x(P_INVERSE, P);
    t = _mm_clmulepi64_si128(_mm_and_si128(x, mask_32), barrett, 0x10);
    t = _mm_clmulepi64_si128(_mm_and_si128(t, mask_32), barrett, 0x00);
    return ~(uint32_t)_mm_extract_epi32(_mm_xor_si128(x, t), 1);
}

uint32_t tr_crc32_of_block(char *text, size_t n) {
    if (!has_clmul)
        return tr_crc32_portable(0, text, n);
    const size_t lanes = (n + LANE_BYTES - 1) / LANE_BYTES;
    const size_t zeros = lanes * LANE_BYTES - n;
    uint32_t first;
    memcpy(&first, text, 4);
    first = ~first;
    memcpy(text, &first, 4);
    memset(text - zeros, 0, zeros);
    return fold(0, text - zeros, lanes);
}

uint32_t tr_crc32_of_text(const char *text, size_t n) {
    const size_t lanes = has_clmul ? n / LANE_BYTES : 0;
    const uint32_t crc = lanes ? fold(UINT32_MAX, text, lanes) : 0;
    return tr_crc32_portable(crc, text + lanes * LANE_BYTES, n - lanes * LANE_BYTES);
}
#else
uint32_t tr_crc32_of_block(char *text, size_t n) { return tr_crc32_portable(0, text, n); }
uint32_t tr_crc32_of_text(const char *text, size_t n) { return tr_crc32_portable(0, text, n); }
#endif
