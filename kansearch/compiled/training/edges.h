/* Edge layers: an activation with an amplitude, a scale and a shift of its own on every edge.

       y_o = sum_i a_oi f(b_oi x_i + d_oi) + c_o,  b = exp(s)

   `weight` is a, `first` s, `second` d (O I each), `constant` c. Nothing is kept for the way back but the inputs. */

#ifndef KANSEARCH_EDGES_H
#define KANSEARCH_EDGES_H

#include "features.h"

#define DEFINE_EDGE(f)                                                                                                 \
    /* Adds an edge to its sum; returns the sum of f^2 over the real rows. */                                          \
    static real edge_of_##f(int64_t B, int64_t n, real a, real b, real d, const real *restrict x, real *restrict y,    \
                            int wants_squares) {                                                                       \
        real squares = 0;                                                                                              \
        ROWS for (int64_t r = 0; r < B; r++) y[r] += a * f(b * x[r] + d).value;                                        \
        if (wants_squares) {                                                                                           \
            ROWS_SUMMING(squares) for (int64_t r = 0; r < n; r++) {                                                    \
                const real value = f(b * x[r] + d).value;                                                              \
                squares += value * value;                                                                              \
            }                                                                                                          \
        }                                                                                                              \
        return squares;                                                                                                \
    }                                                                                                                  \
    /* `pull` is what the penalties pull at the edge's amplitude; of_abd gets the gradients of a, b and d. */          \
    static void edge_backward_of_##f(int64_t B, int64_t n, real a, real b, real d, real pull, const real *restrict x,  \
                                     const real *restrict of_y, real *restrict of_x, real *restrict of_abd) {          \
        real of_a = 0, of_b = 0, of_d = 0;                                                                             \
        ROWS_SUMMING(of_a, of_b, of_d) for (int64_t r = 0; r < B; r++) {                                               \
            const Point point = f(b * x[r] + d);                                                                       \
            const real pulled = r < n ? pull * a * point.value : 0;                                                    \
            const real of_phase = (of_y[r] + pulled) * a * point.slope;                                                \
            of_a += (of_y[r] + pulled) * point.value;                                                                  \
            of_b += of_phase * x[r];                                                                                   \
            of_d += of_phase;                                                                                          \
            of_x[r] += of_phase * b;                                                                                   \
        }                                                                                                              \
        of_abd[0] = of_a, of_abd[1] = of_b, of_abd[2] = of_d;                                                          \
    }
EVERY_FUNCTION(DEFINE_EDGE)
typedef real (*Edge)(int64_t, int64_t, real, real, real, const real *, real *, int);
typedef void (*EdgeBackward)(int64_t, int64_t, real, real, real, real, const real *, const real *, real *, real *);
#define EDGE_OF(f) edge_of_##f,
#define EDGE_BACKWARD_OF(f) edge_backward_of_##f,
static const Edge edge_of[] = {EVERY_FUNCTION(EDGE_OF)};
static const EdgeBackward edge_backward_of[] = {EVERY_FUNCTION(EDGE_BACKWARD_OF)};

static void edges_forward(const Job *job, int wants_amplitudes) {
    const Layer *l = job->layer;
    const int64_t I = l->n_inputs, B = job->B;
    const real *a = job->row + l->weight, *s = job->row + l->first, *d = job->row + l->second;
    for (int64_t o = 0; o < l->n_outputs; o++) {
        real *y = job->pass->y + o * B;
        ROWS for (int64_t r = 0; r < B; r++) y[r] = job->row[l->constant + o];
        for (int64_t i = 0; i < I; i++) {
            const int64_t e = o * I + i;
            const real squares = edge_of[l->function](B, job->n, a[e], scale_of(s[e]), d[e], job->pass->x + i * B, y,
                                                      wants_amplitudes);
            if (wants_amplitudes) job->pass->amplitudes[e] = magnitude(a[e]) * root(squares / job->n);
        }
    }
}

static void edges_backward(const Job *job, int is_penalised, real *gradients) {
    const Layer *l = job->layer;
    const int64_t I = l->n_inputs, B = job->B;
    const real *a = job->row + l->weight, *s = job->row + l->first, *d = job->row + l->second;
    sums_of_rows(l->n_outputs, B, job->scratch->of_y, gradients + l->constant);
    memset(job->scratch->of_x, 0, I * B * sizeof(real));
    for (int64_t o = 0; o < l->n_outputs; o++)
        for (int64_t i = 0; i < I; i++) {
            const int64_t e = o * I + i;
            const real b = scale_of(s[e]), pull = is_penalised ? job->pass->amplitudes[e] / job->n : 0;
            real of_abd[3];
            edge_backward_of[l->function](B, job->n, a[e], b, d[e], pull, job->pass->x + i * B,
                                          job->scratch->of_y + o * B, job->scratch->of_x + i * B, of_abd);
            gradients[l->weight + e] = of_abd[0];
            gradients[l->first + e] = s[e] >= -LARGEST_S && s[e] <= LARGEST_S ? of_abd[1] * b : 0;
            gradients[l->second + e] = of_abd[2];
        }
}

#endif
