/*
 * CRC-32 of IEEE 802.3 (reflected polynomial 0xEDB88320; zlib's crc32), by carry-less multiplication where the CPU has it.
 *
 * Why it is right  The CRC register is the remainder of the message, taken as a polynomial over GF(2), by P. Zeros in
 * front of a message change no remainder, and the register's start value is the same as inverting the message's first
 * four bytes. So the text is put at the end of a block of whole 16-byte lanes, zeros before it, and lanes are folded
 * into the next one: lane x x^128 = low x x^(128+32) + high x x^(128-32) modulo P, in reflected bit order. The last lane
 * is reduced to 64 bits, then by Barrett's method to 32. Constants: Gopal et al., "Fast CRC Computation for Generic
 * Polynomials Using PCLMULQDQ" (Intel, 2009), section "reflected"; the tests hold them to zlib at every length.
 *
 * Cost  One fold (two multiplications) for 16 bytes and no table, which a caller that comes back once a frame would find
 * evicted from the nearest cache. The portable way, slicing by 8, needs 8 KiB of tables.
 */
#ifndef TICKRING_CRC32_H
#define TICKRING_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* Go on with a CRC: pass the result of the bytes before (0 at the start). Any CPU. */
uint32_t tr_crc32_portable(uint32_t crc, const char *text, size_t n);

/* The CRC of `n` bytes at `text`, n >= 4; the 15 bytes before `text` belong to the caller, and they and the text are
   overwritten. */
uint32_t tr_crc32_of_block(char *text, size_t n);

/* The CRC of `n` bytes that are only read. */
uint32_t tr_crc32_of_text(const char *text, size_t n);

#endif
