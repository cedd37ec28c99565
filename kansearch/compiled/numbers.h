/* Numbers and vectors of them.

   The trainer is compiled once for each level of vector instructions: VECTOR_BYTES says how wide they are. REAL is
   the kind of number: float in searches, double where gradients are checked.

   Every sum is taken in an order that the sizes alone decide, never an address, a neighbour or a thread: the same
   network with the same data gives the same bits. */

#ifndef KANSEARCH_NUMBERS_H
#define KANSEARCH_NUMBERS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef VECTOR_BYTES
#define VECTOR_BYTES 16
#endif
#ifndef REAL
#define REAL float
#define IS_FLOAT 1
#else
#define IS_FLOAT 0
#endif

#define INLINE static inline __attribute__((always_inline))
#define TEXT(x) #x
#define ROWS _Pragma("omp simd")
#define ROWS_SUMMING(...) _Pragma(TEXT(omp simd reduction(+ : __VA_ARGS__)))
#define UNROLL _Pragma("GCC unroll 16")

typedef REAL real;
typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real half __attribute__((vector_size(VECTOR_BYTES / 2)));
/* The same in memory, where they may begin at any number. */
typedef real vec_at __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef real half_at __attribute__((vector_size(VECTOR_BYTES / 2), aligned(sizeof(real)), may_alias));
#if IS_FLOAT
typedef int32_t lane_t;
#else
typedef int64_t lane_t;
#endif
typedef lane_t lanes __attribute__((vector_size(VECTOR_BYTES)));

enum {
    LANES = VECTOR_BYTES / sizeof(real),
    ROW_MULTIPLE = 16,   /* rows of a batch are filled up to whole vectors */
    OUTPUT_MULTIPLE = 8, /* and so are the outputs of a matrix of weights */
};

#define AT(p) (*(const vec_at *)(p))
#define TO(p) (*(vec_at *)(p))

INLINE int64_t filled(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/* NaN stays NaN, which fmax does not promise; and this is one instruction. */
INLINE real at_least(real least, real x) { return x < least ? least : x; }
INLINE real at_most(real most, real x) { return x > most ? most : x; }
INLINE real magnitude(real x) { return x < 0 ? -x : x; }
#if IS_FLOAT
INLINE real root(real x) { return sqrtf(x); }
#else
INLINE real root(real x) { return sqrt(x); }
#endif

/* The sums over the lanes of as many vectors as there are lanes: lane l of the result is that of vector l. */
#if defined(__clang__) /* which shuffles by constants alone */
INLINE vec sums_of_all(vec *v) {
    vec sums = {};
    for (int l = 0; l < LANES; l++)
        for (int other = 0; other < LANES; other++) sums[l] += v[l][other];
    return sums;
}
#else
INLINE vec sums_of_all(vec *v) {
    lanes place;
    for (int l = 0; l < LANES; l++) place[l] = l;
    UNROLL for (int apart = 1; apart < LANES; apart *= 2) {
        const lanes in_second = ((place & apart) != 0) & LANES;
        UNROLL for (int l = 0; l < LANES; l += 2 * apart) {
            const vec first = v[l], second = v[l + apart];
            v[l] = __builtin_shuffle(first, second, place + in_second) +
                   __builtin_shuffle(first, second, (place ^ (lane_t)apart) + in_second);
        }
    }
    return v[0];
}
#endif

#endif
