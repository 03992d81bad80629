/* The loops of the tensor codecs at memory speed: the same bytes as `portable.py`, in C99.

   Normative text: docs/formats/store.md, "Codecs of tensor blocks".  Plain functions of plain
   pointers, no state, no allocation; `native.py` checks every size before it calls.  Words are
   little-endian in memory, and so must the machine be.  Words pass through tiles on the stack:
   pointers may be unaligned, and loops over tiles are simple enough for a compiler to vectorise. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TILE 1024 /* words; the tiles of a call stay in the first-level cache */

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

INLINE uint16_t narrow_to_float16(uint32_t x) {
    uint32_t magnitude = x & 0x7FFFFFFFu, exponent = magnitude >> 23;
    uint32_t normal = (magnitude + 0xFFFu + ((magnitude >> 13) & 1u) - (112u << 23)) >> 13;
    /* A number below 2^-14 counts steps of 2^-24; what is under half a step becomes zero. */
    uint32_t whole = (magnitude & 0x7FFFFFu) | 0x800000u;
    uint32_t drop = exponent < 101u ? 25u : exponent > 112u ? 14u : 126u - exponent;
    uint32_t subnormal = (whole + (1u << (drop - 1u)) - 1u + ((whole >> drop) & 1u)) >> drop;
    uint32_t narrow = exponent < 113u ? subnormal : normal;
    narrow = magnitude >= 0x47800000u ? 0x7C00u : narrow;
    narrow = magnitude > 0x7F800000u ? 0x7E00u | ((x >> 13) & 0x3FFu) : narrow;
    return (uint16_t)(((x >> 16) & 0x8000u) | narrow);
}

INLINE uint32_t widen_float16(uint16_t half) {
    uint32_t x = half, magnitude = (x & 0x7FFFu) << 13;
    uint32_t steps, wide;
    /* Exact in any rounding mode: a whole number under 2^10 times a power of two. */
    float small = (float)(int32_t)(x & 0x3FFu) * 5.9604644775390625e-8f;
    memcpy(&steps, &small, sizeof steps);
    wide = magnitude + (112u << 23);
    wide = magnitude >= (31u << 23) ? magnitude + (224u << 23) : wide;
    wide = magnitude < (1u << 23) ? steps : wide;
    return ((x & 0x8000u) << 16) | wide;
}

/* What follows is made once for each width: B bits in a word of type U. */
#define WORDS(B, U)                                                                              \
    INLINE void split_##B(const U *tile, size_t n, uint8_t *planes, size_t stride) {             \
        for (int k = 0; k < B / 8; k++) {                                                        \
            uint8_t *restrict plane = planes + (size_t)k * stride;                               \
            for (size_t i = 0; i < n; i++) plane[i] = (uint8_t)(tile[i] >> (8 * k));             \
        }                                                                                        \
    }                                                                                            \
    INLINE void merge_##B(const uint8_t *const *planes, size_t at, U *restrict tile, size_t n) { \
        const uint8_t *plane = planes[0] + at;                                                   \
        for (size_t i = 0; i < n; i++) tile[i] = plane[i];                                       \
        for (int k = 1; k < B / 8; k++) {                                                        \
            plane = planes[k] + at;                                                              \
            for (size_t i = 0; i < n; i++) tile[i] |= (U)((U)plane[i] << (8 * k));               \
        }                                                                                        \
    }                                                                                            \
    INLINE U fold_##B(U word, U predicted) {                                                     \
        U difference = (U)(word - predicted);                                                    \
        return (U)((U)(difference << 1) ^ (U)(0u - (U)(difference >> (B - 1))));                 \
    }                                                                                            \
    INLINE U unfold_##B(U folded, U predicted) {                                                 \
        return (U)(((U)(folded >> 1) ^ (U)(0u - (U)(folded & 1u))) + predicted);                 \
    }                                                                                            \
    FAST static void split_words_##B(const uint8_t *words, size_t count, int rotated,            \
                                     uint8_t *planes, size_t stride) {                           \
        U tile[TILE];                                                                            \
        for (size_t at = 0; at < count; at += TILE) {                                            \
            size_t n = count - at < TILE ? count - at : TILE;                                    \
            memcpy(tile, words + at * sizeof(U), n * sizeof(U));                                 \
            if (rotated)                                                                         \
                for (size_t i = 0; i < n; i++)                                                   \
                    tile[i] = (U)((U)(tile[i] << 1) | (U)(tile[i] >> (B - 1)));                  \
            split_##B(tile, n, planes + at, stride);                                             \
        }                                                                                        \
    }                                                                                            \
    FAST static void merge_words_##B(const uint8_t *const *planes, size_t count, int rotated,    \
                                     uint8_t *out) {                                             \
        U tile[TILE];                                                                            \
        for (size_t at = 0; at < count; at += TILE) {                                            \
            size_t n = count - at < TILE ? count - at : TILE;                                    \
            merge_##B(planes, at, tile, n);                                                      \
            if (rotated)                                                                         \
                for (size_t i = 0; i < n; i++)                                                   \
                    tile[i] = (U)((U)(tile[i] >> 1) | (U)(tile[i] << (B - 1)));                  \
            memcpy(out + at * sizeof(U), tile, n * sizeof(U));                                   \
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
        U tile[TILE], predicted[TILE];                                                           \
        for (size_t at = 0; at < count; at += TILE) {                                            \
            size_t n = count - at < TILE ? count - at : TILE;                                    \
            merge_##B(planes, at, tile, n);                                                      \
            predict_##B(parent, at, n, cast, predicted);                                         \
            for (size_t i = 0; i < n; i++) tile[i] = unfold_##B(tile[i], predicted[i]);          \
            memcpy(out + at * sizeof(U), tile, n * sizeof(U));                                   \
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

/* Counting sort by the parent's exponent.  A block is walked at LANES places at once, each with
   counters of its own, so that steps of one lane wait for each other and not for all. */
#define LANES 4

typedef struct {
    size_t starts[LANES][256];
    size_t lane; /* words in each lane; what is left over belongs to the last one */
} groups;

#define GROUPED(B, U)                                                                            \
    INLINE U load_##B(const uint8_t *words, size_t i) {                                          \
        U word;                                                                                  \
        memcpy(&word, words + i * sizeof(U), sizeof(U));                                         \
        return word;                                                                             \
    }                                                                                            \
    static void group_##B(const uint8_t *parent, size_t count, int shift, unsigned mask,         \
                          groups *g) {                                                           \
        size_t next = 0;                                                                         \
        memset(g->starts, 0, sizeof g->starts);                                                  \
        g->lane = count / LANES;                                                                 \
        for (size_t i = 0; i < g->lane; i++)                                                     \
            for (size_t l = 0; l < LANES; l++)                                                   \
                g->starts[l][(load_##B(parent, l * g->lane + i) >> shift) & mask]++;             \
        for (size_t i = LANES * g->lane; i < count; i++)                                         \
            g->starts[LANES - 1][(load_##B(parent, i) >> shift) & mask]++;                       \
        for (size_t e = 0; e < 256; e++)                                                         \
            for (size_t l = 0; l < LANES; l++) {                                                 \
                size_t size = g->starts[l][e];                                                   \
                g->starts[l][e] = next;                                                          \
                next += size;                                                                    \
            }                                                                                    \
    }                                                                                            \
    INLINE void scatter_##B(const uint8_t *words, const uint8_t *parent, size_t i, int shift,    \
                            unsigned mask, size_t *starts, uint8_t *planes, size_t stride) {     \
        U predicted = load_##B(parent, i);                                                       \
        U folded = fold_##B(load_##B(words, i), predicted);                                      \
        size_t at = starts[(predicted >> shift) & mask]++;                                       \
        for (int k = 0; k < B / 8; k++)                                                          \
            planes[(size_t)k * stride + at] = (uint8_t)(folded >> (8 * k));                      \
    }                                                                                            \
    INLINE void gather_##B(const uint8_t *const *planes, const uint8_t *parent, size_t i,        \
                           int shift, unsigned mask, size_t *starts, uint8_t *out) {             \
        U predicted = load_##B(parent, i), folded = 0, word;                                     \
        size_t at = starts[(predicted >> shift) & mask]++;                                       \
        for (int k = 0; k < B / 8; k++) folded |= (U)((U)planes[k][at] << (8 * k));              \
        word = unfold_##B(folded, predicted);                                                    \
        memcpy(out + i * sizeof(U), &word, sizeof(U));                                           \
    }                                                                                            \
    static void split_grouped_##B(const uint8_t *words, const uint8_t *parent, size_t count,     \
                                  int shift, unsigned mask, uint8_t *planes, size_t stride) {    \
        groups g;                                                                                \
        group_##B(parent, count, shift, mask, &g);                                               \
        for (size_t i = 0; i < g.lane; i++)                                                      \
            for (size_t l = 0; l < LANES; l++)                                                   \
                scatter_##B(words, parent, l * g.lane + i, shift, mask, g.starts[l], planes,     \
                            stride);                                                             \
        for (size_t i = LANES * g.lane; i < count; i++)                                          \
            scatter_##B(words, parent, i, shift, mask, g.starts[LANES - 1], planes, stride);     \
    }                                                                                            \
    static void merge_grouped_##B(const uint8_t *const *planes, const uint8_t *parent,           \
                                  size_t count, int shift, unsigned mask, uint8_t *out) {        \
        groups g;                                                                                \
        group_##B(parent, count, shift, mask, &g);                                               \
        for (size_t i = 0; i < g.lane; i++)                                                      \
            for (size_t l = 0; l < LANES; l++)                                                   \
                gather_##B(planes, parent, l * g.lane + i, shift, mask, g.starts[l], out);       \
        for (size_t i = LANES * g.lane; i < count; i++)                                          \
            gather_##B(planes, parent, i, shift, mask, g.starts[LANES - 1], out);                \
    }

GROUPED(16, uint16_t)
GROUPED(32, uint32_t)

#ifndef STEMMA_SOURCE_CRC32
#define STEMMA_SOURCE_CRC32 0u
#endif
const uint32_t stemma_source_crc32 = STEMMA_SOURCE_CRC32; /* of this file: see native.py */

/* The interface.  `planes` of a split has one row per byte of a word, `stride` bytes apart. */

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

void stemma_split_grouped(const uint8_t *words, const uint8_t *parent, size_t count, int width, int shift, unsigned mask, uint8_t *planes, size_t stride) {
    if (width == 2) split_grouped_16(words, parent, count, shift, mask & 255u, planes, stride);
    if (width == 4) split_grouped_32(words, parent, count, shift, mask & 255u, planes, stride);
}

void stemma_merge_grouped(const uint8_t *const *planes, const uint8_t *parent, size_t count, int width, int shift, unsigned mask, uint8_t *out) {
    if (width == 2) merge_grouped_16(planes, parent, count, shift, mask & 255u, out);
    if (width == 4) merge_grouped_32(planes, parent, count, shift, mask & 255u, out);
}
