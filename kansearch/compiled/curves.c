/* Curves on many rows at once: f(b x + d), their sums over edges, and the gradients, without a tensor of all edges.

   Every function here does one network after the other, one output (or input) after the other, all rows side by
   side; so what a network gets does not depend on who else is in its stack. Numbers are float; all arrays lie in
   order without gaps, but for the parameters of a stack, whose networks are `stride` numbers apart.

   P networks, B rows, I inputs, O outputs, K curves of each input. */

#include "compiled.h"
#include "functions.h"

/* --- sums over the edges: y_j = sum_i a_ji f(b_ji x_i + d_ji) ---------------------------------------------------- */

/* Of one output. squares[i], where asked for, is the weighted sum over the rows of the squares of f. */
#define DEFINE_SUMS(f)                                                                                                 \
    FOR_EVERY_CPU static void sums_of_##f(long n_inputs, long n_rows, const float *restrict x,                         \
                                          const float *restrict a, const float *restrict b, const float *restrict d,   \
                                          const float *restrict shares, float *restrict sums,                          \
                                          float *restrict squares) {                                                   \
        memset(sums, 0, n_rows * sizeof *sums);                                                                        \
        for (long i = 0; i < n_inputs; i++, x += n_rows) {                                                             \
            const float ai = a[i], bi = b[i], di = d ? d[i] : 0.0f;                                                    \
            if (squares) {                                                                                             \
                float of_squares = 0.0f;                                                                               \
                ROWS_SUMMING(of_squares) for (long r = 0; r < n_rows; r++) {                                           \
                    const float value = f(bi * x[r] + di).value;                                                       \
                    sums[r] += ai * value;                                                                             \
                    of_squares += value * value * shares[r];                                                           \
                }                                                                                                      \
                squares[i] = of_squares;                                                                               \
            } else {                                                                                                   \
                ROWS for (long r = 0; r < n_rows; r++) sums[r] += ai * f(bi * x[r] + di).value;                        \
            }                                                                                                          \
        }                                                                                                              \
    }

/* The gradients of one output's sums and squares; those of x are added to what is there. */
#define DEFINE_SUMS_BACKWARD(f)                                                                                        \
    FOR_EVERY_CPU static void sums_backward_of_##f(                                                                    \
        long n_inputs, long n_rows, const float *restrict x, const float *restrict a, const float *restrict b,         \
        const float *restrict d, const float *restrict shares, const float *restrict of_sums,                          \
        const float *restrict of_squares, float *restrict of_x, float *restrict of_a, float *restrict of_b,            \
        float *restrict of_d) {                                                                                        \
        for (long i = 0; i < n_inputs; i++, x += n_rows) {                                                             \
            const float ai = a[i], bi = b[i], di = d ? d[i] : 0.0f;                                                    \
            const float twice = shares ? 2.0f * of_squares[i] : 0.0f;                                                  \
            float sum_a = 0.0f, sum_b = 0.0f, sum_d = 0.0f;                                                            \
            if (shares) {                                                                                              \
                ROWS_SUMMING(sum_a, sum_b, sum_d) for (long r = 0; r < n_rows; r++) {                                  \
                    const Point p = f(bi * x[r] + di);                                                                 \
                    const float of_phase = (ai * of_sums[r] + twice * p.value * shares[r]) * p.slope;                  \
                    sum_a += of_sums[r] * p.value;                                                                     \
                    sum_b += of_phase * x[r];                                                                          \
                    sum_d += of_phase;                                                                                 \
                    if (of_x) of_x[i * n_rows + r] += bi * of_phase;                                                   \
                }                                                                                                      \
            } else {                                                                                                   \
                ROWS_SUMMING(sum_a, sum_b, sum_d) for (long r = 0; r < n_rows; r++) {                                  \
                    const Point p = f(bi * x[r] + di);                                                                 \
                    const float of_phase = ai * of_sums[r] * p.slope;                                                  \
                    sum_a += of_sums[r] * p.value;                                                                     \
                    sum_b += of_phase * x[r];                                                                          \
                    sum_d += of_phase;                                                                                 \
                    if (of_x) of_x[i * n_rows + r] += bi * of_phase;                                                   \
                }                                                                                                      \
            }                                                                                                          \
            of_a[i] = sum_a, of_b[i] = sum_b;                                                                          \
            if (of_d) of_d[i] = sum_d;                                                                                 \
        }                                                                                                              \
    }

/* --- atoms: f(beta_ik x_i + gamma_ik) ----------------------------------------------------------------------------- */

/* Of one input. */
#define DEFINE_ATOMS(f)                                                                                                \
    FOR_EVERY_CPU static void atoms_of_##f(long n_curves, long n_rows, const float *restrict x,                        \
                                           const float *restrict beta, const float *restrict gamma,                    \
                                           float *restrict values) {                                                   \
        for (long k = 0; k < n_curves; k++, values += n_rows) {                                                        \
            const float scale = beta[k], shift = gamma[k];                                                             \
            ROWS for (long r = 0; r < n_rows; r++) values[r] = f(scale * x[r] + shift).value;                          \
        }                                                                                                              \
    }

#define DEFINE_ATOMS_BACKWARD(f)                                                                                       \
    FOR_EVERY_CPU static void atoms_backward_of_##f(                                                                   \
        long n_curves, long n_rows, const float *restrict x, const float *restrict beta, const float *restrict gamma,  \
        const float *restrict of_values, float *restrict of_x, float *restrict of_beta, float *restrict of_gamma) {    \
        if (of_x) memset(of_x, 0, n_rows * sizeof *of_x);                                                              \
        for (long k = 0; k < n_curves; k++, of_values += n_rows) {                                                     \
            const float scale = beta[k], shift = gamma[k];                                                             \
            float sum_beta = 0.0f, sum_gamma = 0.0f;                                                                   \
            ROWS_SUMMING(sum_beta, sum_gamma) for (long r = 0; r < n_rows; r++) {                                      \
                const float of_phase = of_values[r] * f(scale * x[r] + shift).slope;                                   \
                sum_beta += of_phase * x[r];                                                                           \
                sum_gamma += of_phase;                                                                                 \
                if (of_x) of_x[r] += scale * of_phase;                                                                 \
            }                                                                                                          \
            if (of_beta) of_beta[k] = sum_beta, of_gamma[k] = sum_gamma;                                               \
        }                                                                                                              \
    }

/* --- mixtures: sum_ik w_oik f(beta_ik x_i + gamma_ik) ------------------------------------------------------------- */

/* What one input adds to all sums; `apart` is from output to output in w, `row` has room for a row. */
#define DEFINE_MIXTURES(f)                                                                                             \
    FOR_EVERY_CPU static void mixtures_of_##f(long n_curves, long n_rows, long n_outputs, long apart,                  \
                                              const float *restrict x, const float *restrict beta,                     \
                                              const float *restrict gamma, const float *restrict w,                    \
                                              float *restrict row, float *restrict sums) {                             \
        for (long k = 0; k < n_curves; k++) {                                                                          \
            const float scale = beta[k], shift = gamma[k];                                                             \
            ROWS for (long r = 0; r < n_rows; r++) row[r] = f(scale * x[r] + shift).value;                             \
            for (long o = 0; o < n_outputs; o++) {                                                                     \
                const float weight = w[o * apart + k];                                                                 \
                float *restrict sum = sums + o * n_rows;                                                               \
                ROWS for (long r = 0; r < n_rows; r++) sum[r] += weight * row[r];                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

/* `rows` has room for three; of_w lies as w does, without gaps between networks. */
#define DEFINE_MIXTURES_BACKWARD(f)                                                                                    \
    FOR_EVERY_CPU static void mixtures_backward_of_##f(                                                                \
        long n_curves, long n_rows, long n_outputs, long apart, const float *restrict x, const float *restrict beta,   \
        const float *restrict gamma, const float *restrict w, const float *restrict of_sums, float *restrict rows,     \
        float *restrict of_x, float *restrict of_beta, float *restrict of_gamma, float *restrict of_w) {               \
        float *restrict value = rows, *restrict slope = rows + n_rows, *restrict of_row = rows + 2 * n_rows;           \
        for (long k = 0; k < n_curves; k++) {                                                                          \
            const float scale = beta[k], shift = gamma[k];                                                             \
            ROWS for (long r = 0; r < n_rows; r++) {                                                                   \
                const Point point = f(scale * x[r] + shift);                                                           \
                value[r] = point.value;                                                                                \
                slope[r] = point.slope;                                                                                \
                of_row[r] = 0.0f;                                                                                      \
            }                                                                                                          \
            for (long o = 0; o < n_outputs; o++) {                                                                     \
                const float weight = w[o * apart + k], *restrict of_sum = of_sums + o * n_rows;                        \
                float of_weight = 0.0f;                                                                                \
                ROWS_SUMMING(of_weight) for (long r = 0; r < n_rows; r++) {                                            \
                    of_weight += of_sum[r] * value[r];                                                                 \
                    of_row[r] += weight * of_sum[r];                                                                   \
                }                                                                                                      \
                of_w[o * apart + k] = of_weight;                                                                       \
            }                                                                                                          \
            float sum_beta = 0.0f, sum_gamma = 0.0f;                                                                   \
            ROWS_SUMMING(sum_beta, sum_gamma) for (long r = 0; r < n_rows; r++) {                                      \
                const float of_phase = of_row[r] * slope[r];                                                           \
                sum_beta += of_phase * x[r];                                                                           \
                sum_gamma += of_phase;                                                                                 \
                if (of_x) of_x[r] += scale * of_phase;                                                                 \
            }                                                                                                          \
            if (of_beta) of_beta[k] = sum_beta, of_gamma[k] = sum_gamma;                                               \
        }                                                                                                              \
    }

/* --- for whole stacks ---------------------------------------------------------------------------------------------- */

#define DEFINE_ALL(f)                                                                                            \
    DEFINE_SUMS(f) DEFINE_SUMS_BACKWARD(f) DEFINE_ATOMS(f) DEFINE_ATOMS_BACKWARD(f) DEFINE_MIXTURES(f)                   \
    DEFINE_MIXTURES_BACKWARD(f)
DEFINE_ALL(gaussian)
DEFINE_ALL(mexican_hat)
DEFINE_ALL(relu_bump)
DEFINE_ALL(sigmoid)
DEFINE_ALL(hyperbolic_tangent)
DEFINE_ALL(relu)
DEFINE_ALL(silu)
DEFINE_ALL(gelu)
DEFINE_ALL(sine)
DEFINE_ALL(cubic_b_spline)

/* By number, in the order of kansearch/models/curves.py. */
#define EVERY(kind)                                                                                                    \
    {kind##_of_gaussian, kind##_of_mexican_hat, kind##_of_relu_bump, kind##_of_sigmoid, kind##_of_hyperbolic_tangent,  \
     kind##_of_relu,     kind##_of_silu,        kind##_of_gelu,      kind##_of_sine,    kind##_of_cubic_b_spline}

static void (*const sums_of[])(long, long, const float *, const float *, const float *, const float *, const float *,
                               float *, float *) = EVERY(sums);
static void (*const sums_backward_of[])(long, long, const float *, const float *, const float *, const float *,
                                        const float *, const float *, const float *, float *, float *, float *,
                                        float *) = EVERY(sums_backward);
static void (*const atoms_of[])(long, long, const float *, const float *, const float *, float *) = EVERY(atoms);
static void (*const atoms_backward_of[])(long, long, const float *, const float *, const float *, const float *,
                                         float *, float *, float *) = EVERY(atoms_backward);

static void (*const mixtures_of[])(long, long, long, long, const float *, const float *, const float *, const float *,
                                   float *, float *) = EVERY(mixtures);
static void (*const mixtures_backward_of[])(long, long, long, long, const float *, const float *, const float *,
                                            const float *, const float *, float *, float *, float *, float *,
                                            float *) = EVERY(mixtures_backward);

static const float *at(const float *numbers, long place) { return numbers ? numbers + place : 0; }
static float *out(float *numbers, long place) { return numbers ? numbers + place : 0; }

int kansearch_version(void) { return VERSION; }

/* x: P I B; a, b, d: P O I (d may be missing); shares: B, or missing with the squares; sums: P O B; squares: P O I. */
void edge_sums(const int *functions, const long *sizes, const long *strides, const float *x, const float *a,
               const float *b, const float *d, const float *shares, float *sums, float *squares) {
    const long P = sizes[0], O = sizes[1], I = sizes[2], B = sizes[3];
    for (long p = 0; p < P; p++)
        for (long o = 0; o < O; o++)
            sums_of[functions[p]](I, B, x + p * I * B, a + p * strides[0] + o * I, b + p * strides[1] + o * I,
                                  at(d, p * strides[2] + o * I), shares, sums + (p * O + o) * B,
                                  out(squares, (p * O + o) * I));
}

/* of_x (may be missing): P I B, zeros at first. */
void edge_sums_backward(const int *functions, const long *sizes, const long *strides, const float *x, const float *a,
                        const float *b, const float *d, const float *shares, const float *of_sums,
                        const float *of_squares, float *of_x, float *of_a, float *of_b, float *of_d) {
    const long P = sizes[0], O = sizes[1], I = sizes[2], B = sizes[3];
    for (long p = 0; p < P; p++)
        for (long o = 0; o < O; o++) {
            const long here = (p * O + o) * I;
            sums_backward_of[functions[p]](I, B, x + p * I * B, a + p * strides[0] + o * I, b + p * strides[1] + o * I,
                                           at(d, p * strides[2] + o * I), shares, of_sums + (p * O + o) * B,
                                           of_squares + here, out(of_x, p * I * B), of_a + here, of_b + here,
                                           out(of_d, here));
        }
}

/* x: P I B; beta, gamma: P I K; values: P I K B. */
void atoms(const int *functions, const long *sizes, const long *strides, const float *x, const float *beta,
           const float *gamma, float *values) {
    const long P = sizes[0], I = sizes[1], K = sizes[2], B = sizes[3];
    for (long p = 0; p < P; p++)
        for (long i = 0; i < I; i++)
            atoms_of[functions[p]](K, B, x + (p * I + i) * B, beta + p * strides[0] + i * K,
                                   gamma + p * strides[1] + i * K, values + (p * I + i) * K * B);
}

/* of_x, and of_beta with of_gamma, may be missing. */
void atoms_backward(const int *functions, const long *sizes, const long *strides, const float *x, const float *beta,
                    const float *gamma, const float *of_values, float *of_x, float *of_beta, float *of_gamma) {
    const long P = sizes[0], I = sizes[1], K = sizes[2], B = sizes[3];
    for (long p = 0; p < P; p++)
        for (long i = 0; i < I; i++)
            atoms_backward_of[functions[p]](K, B, x + (p * I + i) * B, beta + p * strides[0] + i * K,
                                            gamma + p * strides[1] + i * K, of_values + (p * I + i) * K * B,
                                            out(of_x, (p * I + i) * B), out(of_beta, (p * I + i) * K),
                                            out(of_gamma, (p * I + i) * K));
}

/* x: P I B; beta, gamma: P I K; w: P O I K; row: B numbers of scratch; sums: P O B, zeros at first. */
void mixtures(const int *functions, const long *sizes, const long *strides, const float *x, const float *beta,
              const float *gamma, const float *w, float *row, float *sums) {
    const long P = sizes[0], O = sizes[1], I = sizes[2], K = sizes[3], B = sizes[4];
    for (long p = 0; p < P; p++)
        for (long i = 0; i < I; i++)
            mixtures_of[functions[p]](K, B, O, I * K, x + (p * I + i) * B, beta + p * strides[0] + i * K,
                                      gamma + p * strides[1] + i * K, w + p * strides[2] + i * K, row,
                                      sums + p * O * B);
}

/* rows: 3 B numbers of scratch; of_x: zeros at first, and like of_beta with of_gamma it may be missing. */
void mixtures_backward(const int *functions, const long *sizes, const long *strides, const float *x, const float *beta,
                       const float *gamma, const float *w, const float *of_sums, float *rows, float *of_x,
                       float *of_beta, float *of_gamma, float *of_w) {
    const long P = sizes[0], O = sizes[1], I = sizes[2], K = sizes[3], B = sizes[4];
    for (long p = 0; p < P; p++)
        for (long i = 0; i < I; i++)
            mixtures_backward_of[functions[p]](
                K, B, O, I * K, x + (p * I + i) * B, beta + p * strides[0] + i * K, gamma + p * strides[1] + i * K,
                w + p * strides[2] + i * K, of_sums + p * O * B, rows, out(of_x, (p * I + i) * B),
                out(of_beta, (p * I + i) * K), out(of_gamma, (p * I + i) * K), of_w + p * O * I * K + i * K);
}
