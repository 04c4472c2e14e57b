/*
 * CRC-32 of IEEE 802.3 (reflected polynomial 0xEDB88320; zlib's crc32), eight bytes a step.
 *
 * Cost  Slicing by 8: two table loads in flight for every four bytes; the tables (8 KiB) are made once, at load time.
 */
#ifndef TICKRING_CRC32_H
#define TICKRING_CRC32_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TR_CRC32_POLYNOMIAL UINT32_C(0xEDB88320)

extern uint32_t tr_crc32_tables[8][256];

/* Go on with a CRC: pass the result of the bytes before (0 at the start). */
static inline uint32_t tr_crc32_update(uint32_t crc, const char *text, size_t n) {
    crc = ~crc;
    while (n >= 8) {
        uint32_t low;
        uint32_t high;
        memcpy(&low, text, 4);
        memcpy(&high, text + 4, 4);
        low ^= crc;
        crc = tr_crc32_tables[7][low & 0xFF] ^ tr_crc32_tables[6][(low >> 8) & 0xFF] ^
              tr_crc32_tables[5][(low >> 16) & 0xFF] ^ tr_crc32_tables[4][low >> 24] ^
              tr_crc32_tables[3][high & 0xFF] ^ tr_crc32_tables[2][(high >> 8) & 0xFF] ^
              tr_crc32_tables[1][(high >> 16) & 0xFF] ^ tr_crc32_tables[0][high >> 24];
        text += 8;
        n -= 8;
    }
    while (n--)
        crc = tr_crc32_tables[0][(crc ^ (uint8_t)*text++) & 0xFF] ^ (crc >> 8);
    return ~crc;
}

#endif
