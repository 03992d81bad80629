/* The loops of the tensor codecs at memory speed: the same bytes as `portable.py`, in C99.

   Normative text: docs/formats/store.md, "Codecs of tensor blocks".  Plain functions of plain
   pointers, no state, no allocation; `native.py` checks every size before it calls.  Words are
   little-endian in memory, and so must the machine be.  Work is done in tiles, through the stack
   where pointers are not aligned; loops over tiles are simple enough for a compiler to vectorise. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TILE 512 /* words; the tiles of a call stay in the first-level cache */

#define IS_ALIGNED(pointer, U) ((uintptr_t)(pointer) % sizeof(U) == 0)

#if defined(__has_attribute)
#if __has_attribute(target_clones) && defined(__x86_64__) && defined(__GLIBC__) && !defined(STEMMA_NO_CLONES)
#define FAST __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef FAST
#define FAST
#endif
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

enum { SAME = 0, FLOAT32_BFLOAT16 = 1, FLOAT32_FLOAT16 = 2, BFLOAT16_FLOAT32 = 3, FLOAT16_FLOAT32 = 4 };

INLINE uint16_t narrow_to_bfloat16(uint32_t x) {
    uint32_t rounded = (x + 0x7FFFu + ((x >> 16) & 1u)) >> 16;
    uint32_t quiet = (x >> 16) | 0x0040u;
    return (uint16_t)((x & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

/* `a` where the condition holds, else `b`: without a branch, so that loops vectorise. */
INLINE uint32_t pick(int condition, uint32_t a, uint32_t b) {
    uint32_t mask = 0u - (uint32_t)condition;
    return (a & mask) | (b & ~mask);
}

INLINE uint16_t narrow_to_float16(uint32_t x) {
    uint32_t magnitude = x & 0x7FFFFFFFu, exponent = magnitude >> 23;
    uint32_t normal = (magnitude + 0xFFFu + ((magnitude >> 13) & 1u) - (112u << 23)) >> 13;
    /* A number below 2^-14 counts steps of 2^-24; what is under half a step becomes zero. */
    uint32_t whole = (magnitude & 0x7FFFFFu) | 0x800000u;
    uint32_t low = pick(exponent < 101u, 101u, exponent);
    uint32_t drop = 126u - pick(low > 112u, 112u, low);
    uint32_t subnormal = (whole + (1u << (drop - 1u)) - 1u + ((whole >> drop) & 1u)) >> drop;
    uint32_t narrow = pick(exponent < 113u, subnormal, normal);
    narrow = pick(magnitude >= 0x47800000u, 0x7C00u, narrow);
    narrow = pick(magnitude > 0x7F800000u, 0x7E00u | ((x >> 13) & 0x3FFu), narrow);
    return (uint16_t)(((x >> 16) & 0x8000u) | narrow);
}

INLINE uint32_t widen_float16(uint16_t half) {
    uint32_t x = half, magnitude = (x & 0x7FFFu) << 13;
    union {
        float number;
        uint32_t bits;
    } small;
    /* Exact in any rounding mode: a whole number under 2^10 times a power of two. */
    small.number = (float)(int32_t)(x & 0x3FFu) * 5.9604644775390625e-8f;
    uint32_t normal = magnitude + (112u << 23);
    uint32_t special = magnitude + (224u << 23);
    uint32_t wide = pick(magnitude >= (31u << 23), special, normal);
    wide = pick(magnitude < (1u << 23), small.bits, wide);
    return ((x & 0x8000u) << 16) | wide;
}

/* Tiles to planes and back, through halves: compilers narrow and widen by one step well. */

INLINE void split_8(const uint8_t *tile, size_t n, uint8_t *plane, size_t stride) {
    (void)stride;
    memcpy(plane, tile, n);
}

INLINE void merge_8(const uint8_t *const *planes, size_t at, uint8_t *tile, size_t n) {
    memcpy(tile, planes[0] + at, n);
}

INLINE void split_16(const uint16_t *tile, size_t n, uint8_t *planes, size_t stride) {
    uint8_t *restrict low = planes, *restrict high = planes + stride;
    for (size_t i = 0; i < n; i++) low[i] = (uint8_t)tile[i];
    for (size_t i = 0; i < n; i++) high[i] = (uint8_t)(tile[i] >> 8);
}

INLINE void merge_16(const uint8_t *const *planes, size_t at, uint16_t *restrict tile, size_t n) {
    const uint8_t *low = planes[0] + at, *high = planes[1] + at;
    for (size_t i = 0; i < n; i++) tile[i] = (uint16_t)(low[i] | high[i] << 8);
}

#define HALVES(B, U, H, HALF)                                                                    \
    INLINE void split_##B(const U *tile, size_t n, uint8_t *planes, size_t stride) {             \
        HALF low[TILE], high[TILE];                                                              \
        for (size_t i = 0; i < n; i++) low[i] = (HALF)tile[i];                                   \
        for (size_t i = 0; i < n; i++) high[i] = (HALF)(tile[i] >> H);                           \
        split_##H(low, n, planes, stride);                                                       \
        split_##H(high, n, planes + (size_t)(H / 8) * stride, stride);                           \
    }                                                                                            \
    INLINE void merge_##B(const uint8_t *const *planes, size_t at, U *tile, size_t n) {          \
        HALF low[TILE], high[TILE];                                                              \
        merge_##H(planes, at, low, n);                                                           \
        merge_##H(planes + H / 8, at, high, n);                                                  \
        for (size_t i = 0; i < n; i++) tile[i] = (U)(low[i] | (U)((U)high[i] << H));             \
    }

HALVES(32, uint32_t, 16, uint16_t)
HALVES(64, uint64_t, 32, uint32_t)

/* What follows is made once for each width: B bits in a word of type U. */
#define WORDS(B, U)                                                                              \
    INLINE U fold_##B(U word, U predicted) {                                                     \
        U difference = (U)(word - predicted);                                                    \
        return (U)((U)(difference << 1) ^ (U)(0u - (U)(difference >> (B - 1))));                 \
    }                                                                                            \
    INLINE U unfold_##B(U folded, U predicted) {                                                 \
        return (U)(((U)(folded >> 1) ^ (U)(0u - (U)(folded & 1u))) + predicted);                 \
    }                                                                                            \
    FAST static void split_words_##B(const uint8_t *words, size_t count, int rotated,            \
                                     uint8_t *planes, size_t stride) {                           \
        U buffer[TILE];                                                                          \
        for (size_t at = 0; at < count; at += TILE) {                                            \
            size_t n = count - at < TILE ? count - at : TILE;                                    \
            const U *tile = (const U *)(const void *)words + at;                                 \
            if (!IS_ALIGNED(words, U)) {                                                         \
                memcpy(buffer, words + at * sizeof(U), n * sizeof(U));                           \
                tile = buffer;                                                                   \
            }                                                                                    \
            if (rotated) {                                                                       \
                for (size_t i = 0; i < n; i++)                                                   \
                    buffer[i] = (U)((U)(tile[i] << 1) | (U)(tile[i] >> (B - 1)));                \
                tile = buffer;                                                                   \
            }                                                                                    \
            split_##B(tile, n, planes + at, stride);                                             \
        }                                                                                        \
    }                                                                                            \
    FAST static void merge_words_##B(const uint8_t *const *planes, size_t count, int rotated,    \
                                     uint8_t *out) {                                             \
        U buffer[TILE];                                                                          \
        for (size_t at = 0; at < count; at += TILE) {                                            \
            size_t n = count - at < TILE ? count - at : TILE;                                    \
            U *tile = IS_ALIGNED(out, U) ? (U *)(void *)out + at : buffer;                       \
            merge_##B(planes, at, tile, n);                                                      \
            if (rotated)                                                                         \
                for (size_t i = 0; i < n; i++)                                                   \
                    tile[i] = (U)((U)(tile[i] >> 1) | (U)(tile[i] << (B - 1)));                  \
            if (tile == buffer) memcpy(out + at * sizeof(U), buffer, n * sizeof(U));             \
        }                                                                                        \
    }                                                                                            \
    FAST static void split_residuals_##B(const uint8_t *words, const uint8_t *parent,            \
                                         size_t count, int cast, uint8_t *planes,                \
                                         size_t stride) {                                        \
        U tile[TILE], predicted[TILE];                                                           \
        for (size_t at = 0; at < count; at += TILE) {                                            \
            size_t n = count - at < TILE ? count - at : TILE;                                    \
            memcpy(tile, words + at * sizeof(U), n * sizeof(U));                                 \
            predict_##B(parent, at, n, cast, predicted);                                         \
            for (size_t i = 0; i < n; i++) tile[i] = fold_##B(tile[i], predicted[i]);            \
            split_##B(tile, n, planes + at, stride);                                             \
        }                                                                                        \
    }                                                                                            \
    FAST static void merge_residuals_##B(const uint8_t *const *planes, const uint8_t *parent,    \
                                         size_t count, int cast, uint8_t *out) {                 \
        U buffer[TILE], predicted[TILE];                                                         \
        for (size_t at = 0; at < count; at += TILE) {                                            \
            size_t n = count - at < TILE ? count - at : TILE;                                    \
            U *tile = IS_ALIGNED(out, U) ? (U *)(void *)out + at : buffer;                       \
            merge_##B(planes, at, tile, n);                                                      \
            predict_##B(parent, at, n, cast, predicted);                                         \
            for (size_t i = 0; i < n; i++) tile[i] = unfold_##B(tile[i], predicted[i]);          \
            if (tile == buffer) memcpy(out + at * sizeof(U), buffer, n * sizeof(U));             \
        }                                                                                        \
    }

INLINE void predict_8(const uint8_t *parent, size_t at, size_t n, int cast, uint8_t *out) {
    (void)cast;
    memcpy(out, parent + at, n);
}

INLINE void predict_64(const uint8_t *parent, size_t at, size_t n, int cast, uint64_t *out) {
    (void)cast;
    memcpy(out, parent + at * 8, n * 8);
}

INLINE void predict_16(const uint8_t *parent, size_t at, size_t n, int cast, uint16_t *out) {
    uint32_t wide[TILE];
    if (cast == SAME) {
        memcpy(out, parent + at * 2, n * 2);
        return;
    }
    memcpy(wide, parent + at * 4, n * 4);
    if (cast == FLOAT32_BFLOAT16)
        for (size_t i = 0; i < n; i++) out[i] = narrow_to_bfloat16(wide[i]);
    else
        for (size_t i = 0; i < n; i++) out[i] = narrow_to_float16(wide[i]);
}

INLINE void predict_32(const uint8_t *parent, size_t at, size_t n, int cast, uint32_t *out) {
    uint16_t half[TILE];
    if (cast == SAME) {
        memcpy(out, parent + at * 4, n * 4);
        return;
    }
    memcpy(half, parent + at * 2, n * 2);
    if (cast == BFLOAT16_FLOAT32)
        for (size_t i = 0; i < n; i++) out[i] = (uint32_t)half[i] << 16;
    else
        for (size_t i = 0; i < n; i++) out[i] = widen_float16(half[i]);
}

WORDS(8, uint8_t)
WORDS(16, uint16_t)
WORDS(32, uint32_t)
WORDS(64, uint64_t)

/* How often each byte occurs.  Four tables, so that equal bytes beside each other do not wait for
   one counter. */
INLINE void count_into(uint32_t tables[4][256], const uint8_t *symbols, size_t n) {
    for (size_t i = 0; i + 4 <= n; i += 4)
        for (size_t k = 0; k < 4; k++) tables[k][symbols[i + k]]++;
    for (size_t i = n - n % 4; i < n; i++) tables[0][symbols[i]]++;
}

/* Counting sort by the parent's exponent: `starts` is where the next word of each goes.  Words are
   moved whole and taken apart after: two bytes to two planes take twice as long as one word. */
#define GROUPED(B, U)                                                                            \
    INLINE void exponents_##B(const U *parent, size_t n, int shift, unsigned mask,               \
                              uint8_t *exponents) {                                              \
        for (size_t i = 0; i < n; i++) exponents[i] = (uint8_t)((parent[i] >> shift) & mask);    \
    }                                                                                            \
    FAST static void group_##B(const uint8_t *parent, size_t count, int shift, unsigned mask,    \
                               uint32_t *starts) {                                               \
        uint32_t tables[4][256], next = 0;                                                       \
        uint8_t exponents[TILE];                                                                 \
        U before[TILE];                                                                          \
        memset(tables, 0, sizeof tables);                                                        \
        for (size_t at = 0; at < count; at += TILE) {                                            \
            size_t n = count - at < TILE ? count - at : TILE;                                    \
            memcpy(before, parent + at * sizeof(U), n * sizeof(U));                              \
            exponents_##B(before, n, shift, mask, exponents);                                    \
            count_into(tables, exponents, n);                                                    \
        }                                                                                        \
        for (size_t e = 0; e < 256; e++) {                                                       \
            starts[e] = next;                                                                    \
            next += tables[0][e] + tables[1][e] + tables[2][e] + tables[3][e];                   \
        }                                                                                        \
    }                                                                                            \
    FAST static void split_grouped_##B(const uint8_t *words, const uint8_t *parent,              \
                                       size_t count, int shift, unsigned mask, uint8_t *grouped, \
                                       uint8_t *planes, size_t stride) {                         \
        uint32_t starts[256];                                                                    \
        uint8_t exponents[TILE];                                                                 \
        U tile[TILE], before[TILE];                                                              \
        group_##B(parent, count, shift, mask, starts);                                           \
        for (size_t at = 0; at < count; at += TILE) {                                            \
            size_t n = count - at < TILE ? count - at : TILE;                                    \
            memcpy(tile, words + at * sizeof(U), n * sizeof(U));                                 \
            memcpy(before, parent + at * sizeof(U), n * sizeof(U));                              \
            exponents_##B(before, n, shift, mask, exponents);                                    \
            for (size_t i = 0; i < n; i++) tile[i] = fold_##B(tile[i], before[i]);               \
            for (size_t i = 0; i < n; i++)                                                       \
                memcpy(grouped + starts[exponents[i]]++ * sizeof(U), &tile[i], sizeof(U));       \
        }                                                                                        \
        split_words_##B(grouped, count, 0, planes, stride);                                      \
    }                                                                                            \
    FAST static void merge_grouped_##B(const uint8_t *const *planes, const uint8_t *parent,      \
                                       size_t count, int shift, unsigned mask, uint8_t *grouped, \
                                       uint8_t *out) {                                           \
        uint32_t starts[256];                                                                    \
        uint8_t exponents[TILE];                                                                 \
        U tile[TILE], before[TILE];                                                              \
        merge_words_##B(planes, count, 0, grouped);                                              \
        group_##B(parent, count, shift, mask, starts);                                           \
        for (size_t at = 0; at < count; at += TILE) {                                            \
            size_t n = count - at < TILE ? count - at : TILE;                                    \
            memcpy(before, parent + at * sizeof(U), n * sizeof(U));                              \
            exponents_##B(before, n, shift, mask, exponents);                                    \
            for (size_t i = 0; i < n; i++)                                                       \
                memcpy(&tile[i], grouped + starts[exponents[i]]++ * sizeof(U), sizeof(U));       \
            for (size_t i = 0; i < n; i++) tile[i] = unfold_##B(tile[i], before[i]);             \
            memcpy(out + at * sizeof(U), tile, n * sizeof(U));                                   \
        }                                                                                        \
    }

GROUPED(16, uint16_t)
GROUPED(32, uint32_t)

#ifndef STEMMA_SOURCE_CRC32
#define STEMMA_SOURCE_CRC32 0u
#endif
const uint32_t stemma_source_crc32 = STEMMA_SOURCE_CRC32; /* of this file: see native.py */

/* The interface.  `planes` of a split has one row per byte of a word, `stride` bytes apart.
   `scratch` is as large as the block. */

void stemma_split(const uint8_t *words, size_t count, int width, int rotated, uint8_t *planes, size_t stride) {
    if (width == 1) split_words_8(words, count, rotated, planes, stride);
    if (width == 2) split_words_16(words, count, rotated, planes, stride);
    if (width == 4) split_words_32(words, count, rotated, planes, stride);
    if (width == 8) split_words_64(words, count, rotated, planes, stride);
}

void stemma_merge(const uint8_t *const *planes, size_t count, int width, int rotated, uint8_t *out) {
    if (width == 1) merge_words_8(planes, count, rotated, out);
    if (width == 2) merge_words_16(planes, count, rotated, out);
    if (width == 4) merge_words_32(planes, count, rotated, out);
    if (width == 8) merge_words_64(planes, count, rotated, out);
}

void stemma_split_residuals(const uint8_t *words, const uint8_t *parent, size_t count, int width, int cast, uint8_t *planes, size_t stride) {
    if (width == 1) split_residuals_8(words, parent, count, cast, planes, stride);
    if (width == 2) split_residuals_16(words, parent, count, cast, planes, stride);
    if (width == 4) split_residuals_32(words, parent, count, cast, planes, stride);
    if (width == 8) split_residuals_64(words, parent, count, cast, planes, stride);
}

void stemma_merge_residuals(const uint8_t *const *planes, const uint8_t *parent, size_t count, int width, int cast, uint8_t *out) {
    if (width == 1) merge_residuals_8(planes, parent, count, cast, out);
    if (width == 2) merge_residuals_16(planes, parent, count, cast, out);
    if (width == 4) merge_residuals_32(planes, parent, count, cast, out);
    if (width == 8) merge_residuals_64(planes, parent, count, cast, out);
}

void stemma_split_grouped(const uint8_t *words, const uint8_t *parent, size_t count, int width, int shift, unsigned mask, uint8_t *scratch, uint8_t *planes, size_t stride) {
    if (width == 2) split_grouped_16(words, parent, count, shift, mask & 255u, scratch, planes, stride);
    if (width == 4) split_grouped_32(words, parent, count, shift, mask & 255u, scratch, planes, stride);
}

void stemma_merge_grouped(const uint8_t *const *planes, const uint8_t *parent, size_t count, int width, int shift, unsigned mask, uint8_t *scratch, uint8_t *out) {
    if (width == 2) merge_grouped_16(planes, parent, count, shift, mask & 255u, scratch, out);
    if (width == 4) merge_grouped_32(planes, parent, count, shift, mask & 255u, scratch, out);
}

/* How often each byte occurs: in `counts[0..255]`, or by group in 256 such rows. */
void stemma_count(const uint8_t *symbols, const uint8_t *groups, size_t count, uint32_t *counts) {
    if (groups) {
        memset(counts, 0, 65536 * sizeof *counts);
        for (size_t i = 0; i < count; i++) counts[(size_t)groups[i] << 8 | symbols[i]]++;
        return;
    }
    uint32_t tables[4][256];
    memset(tables, 0, sizeof tables);
    count_into(tables, symbols, count);
    for (size_t s = 0; s < 256; s++)
        counts[s] = tables[0][s] + tables[1][s] + tables[2][s] + tables[3][s];
}
