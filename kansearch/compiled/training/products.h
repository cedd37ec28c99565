/* Matrix products over rows that lie side by side, in blocks that fit the registers.

   They are level with the BLAS that SciPy brings at width 16 and faster where matrices are small; and they sum in the
   same order on every processor of a level. */

#ifndef KANSEARCH_PRODUCTS_H
#define KANSEARCH_PRODUCTS_H

#include "../numbers.h"

/* How a product begins: with nothing, with a number for each row of C, or with what C holds. */
typedef struct {
    const real *constants;
    int onto;
} Start;

#define DEFINE_BLOCK(name, vector, vector_at, width)                                                                   \
    INLINE void name(const int n_rows, const int n_vectors, int64_t n_terms, const real *a, int64_t a_row,             \
                     int64_t a_term, const real *b, int64_t b_term, real *c, int64_t c_row, const real *constants,     \
                     int onto) {                                                                                       \
        vector sum[16][4];                                                                                             \
        UNROLL for (int m = 0; m < n_rows; m++) UNROLL for (int v = 0; v < n_vectors; v++) {                           \
            sum[m][v] = (vector){} + (constants ? constants[m] : (real)0);                                             \
            if (onto) sum[m][v] += *(const vector_at *)(c + m * c_row + v * width);                                    \
        }                                                                                                              \
        for (int64_t p = 0; p < n_terms; p++) {                                                                        \
            vector terms[4];                                                                                           \
            UNROLL for (int v = 0; v < n_vectors; v++) terms[v] = *(const vector_at *)(b + p * b_term + v * width);    \
            UNROLL for (int m = 0; m < n_rows; m++) {                                                                  \
                const real factor = a[m * a_row + p * a_term];                                                         \
                UNROLL for (int v = 0; v < n_vectors; v++) sum[m][v] += factor * terms[v];                             \
            }                                                                                                          \
        }                                                                                                              \
        UNROLL for (int m = 0; m < n_rows; m++) UNROLL for (int v = 0; v < n_vectors; v++)                             \
            *(vector_at *)(c + m * c_row + v * width) = sum[m][v];                                                     \
    }
DEFINE_BLOCK(block, vec, vec_at, LANES)
DEFINE_BLOCK(half_block, half, half_at, LANES / 2)

/* Some vectors of columns of C, as many rows at once as the registers hold. */
#define DEFINE_PANEL(name, block, n_vectors, most)                                                                     \
    static void name(int64_t n_rows, int64_t n_terms, const real *a, int64_t a_row, int64_t a_term, const real *b,     \
                     int64_t b_term, real *c, int64_t c_row, const real *constants, int onto) {                        \
        for (int64_t m = 0; m < n_rows;) {                                                                             \
            const int64_t left = n_rows - m;                                                                           \
            const real *a_m = a + m * a_row, *constants_m = constants ? constants + m : 0;                             \
            real *c_m = c + m * c_row;                                                                                 \
            if (left >= most) {                                                                                        \
                block(most, n_vectors, n_terms, a_m, a_row, a_term, b, b_term, c_m, c_row, constants_m, onto);         \
                m += most;                                                                                             \
            } else if (most > 4 && left >= 4) {                                                                        \
                block(4, n_vectors, n_terms, a_m, a_row, a_term, b, b_term, c_m, c_row, constants_m, onto);            \
                m += 4;                                                                                                \
            } else if (left >= 2) {                                                                                    \
                block(2, n_vectors, n_terms, a_m, a_row, a_term, b, b_term, c_m, c_row, constants_m, onto);            \
                m += 2;                                                                                                \
            } else {                                                                                                   \
                block(1, n_vectors, n_terms, a_m, a_row, a_term, b, b_term, c_m, c_row, constants_m, onto);            \
                m += 1;                                                                                                \
            }                                                                                                          \
        }                                                                                                              \
    }
#if VECTOR_BYTES == 64 /* 32 registers */
DEFINE_PANEL(panel_of_4, block, 4, 6)
DEFINE_PANEL(panel_of_2, block, 2, 12)
DEFINE_PANEL(panel_of_1, block, 1, 16)
DEFINE_PANEL(panel_of_half, half_block, 1, 16)
#else /* 16 */
DEFINE_PANEL(panel_of_4, block, 4, 3)
DEFINE_PANEL(panel_of_2, block, 2, 6)
DEFINE_PANEL(panel_of_1, block, 1, 12)
DEFINE_PANEL(panel_of_half, half_block, 1, 12)
#endif

/* C[m, n] = start + sum_p A(m, p) B[p, n], where A(m, p) is a[m a_row + p a_term] and n_columns is a multiple of half a
   vector. */
static void product(int64_t n_rows, int64_t n_columns, int64_t n_terms, const real *a, int64_t a_row, int64_t a_term,
                    const real *b, int64_t b_term, real *c, int64_t c_row, Start start) {
    const real *constants = start.constants;
    const int onto = start.onto;
    int64_t n = 0;
    for (; n + 4 * LANES <= n_columns; n += 4 * LANES)
        panel_of_4(n_rows, n_terms, a, a_row, a_term, b + n, b_term, c + n, c_row, constants, onto);
    if (n + 2 * LANES <= n_columns) {
        panel_of_2(n_rows, n_terms, a, a_row, a_term, b + n, b_term, c + n, c_row, constants, onto);
        n += 2 * LANES;
    }
    for (; n + LANES <= n_columns; n += LANES)
        panel_of_1(n_rows, n_terms, a, a_row, a_term, b + n, b_term, c + n, c_row, constants, onto);
    if (n < n_columns) panel_of_half(n_rows, n_terms, a, a_row, a_term, b + n, b_term, c + n, c_row, constants, onto);
}

enum {
    SIDE = LANES >= 16 ? 4 : LANES >= 4 ? 2 : 1, /* of a square of sums that are taken together */
};

/* C[m, n] = sum_r A[m, r] B[n, r] for a small C: both lie row by row, and the sums are over whole vectors. */
static void sums_of_products(int64_t n_rows, int64_t n_columns, int64_t n_terms, const real *a, int64_t a_row,
                             const real *b, int64_t b_row, real *c, int64_t c_row) {
    for (int64_t m = 0; m < n_rows; m += SIDE)
        for (int64_t n = 0; n < n_columns; n += SIDE) {
            vec sum[LANES];
            real sums[LANES];
            const real *a_of[SIDE], *b_of[SIDE];
            for (int i = 0; i < SIDE; i++) { /* beyond the edge the last row stands again */
                a_of[i] = a + (m + i < n_rows ? m + i : n_rows - 1) * a_row;
                b_of[i] = b + (n + i < n_columns ? n + i : n_columns - 1) * b_row;
            }
            UNROLL for (int i = 0; i < LANES; i++) sum[i] = (vec){};
            for (int64_t r = 0; r < n_terms; r += LANES) {
                vec b_r[SIDE];
                UNROLL for (int j = 0; j < SIDE; j++) b_r[j] = AT(b_of[j] + r);
                UNROLL for (int i = 0; i < SIDE; i++) {
                    const vec a_r = AT(a_of[i] + r);
                    UNROLL for (int j = 0; j < SIDE; j++) sum[i * SIDE + j] += a_r * b_r[j];
                }
            }
            TO(sums) = sums_of_all(sum);
            for (int i = 0; i < SIDE && m + i < n_rows; i++)
                for (int j = 0; j < SIDE && n + j < n_columns; j++) c[(m + i) * c_row + n + j] = sums[i * SIDE + j];
        }
}

#endif
