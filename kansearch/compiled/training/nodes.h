/* Layers whose curves are nodes': one product of weights, then an activation of each node's own.

       node      y_o = a_o f(b_o u_o + d_o) + c_o,  b = exp(s)                      u = W x
       mixture   y_o = sum_k a_ok f(scale_k u_o + shift_k) + c_o

   `weight` is W (I P), `constant` c (O), `third` a (O, or O K); of a node `first` is s and `second` d (O each), of a
   mixture (a kernel activation function) scales and shifts (K each) are fixed. */

#ifndef KANSEARCH_NODES_H
#define KANSEARCH_NODES_H

#include "features.h"

/* Of one node: its curve's values without the constant, and their slopes in u. */
static void node_curve(const Job *job, int64_t o, const real *u, real *values, real *slopes) {
    const Layer *l = job->layer;
    const int64_t B = job->B;
    const real *a = job->row + l->third;
    if (l->kind == NODE) {
        const real b = scale_of(job->row[l->first + o]);
        curves_of[l->function](1, B, &b, job->row + l->second + o, u, values, slopes);
        ROWS for (int64_t r = 0; r < B; r++) {
            values[r] *= a[o];
            slopes[r] *= a[o] * b;
        }
        return;
    }
    real *value = job->scratch->nodes, *slope = value + B;
    memset(values, 0, B * sizeof(real));
    memset(slopes, 0, B * sizeof(real));
    for (int64_t k = 0; k < l->n_functions; k++) {
        const real weight = a[o * l->n_functions + k], scale = job->fixed[l->scales + k];
        curves_of[l->function](1, B, &scale, job->fixed + l->shifts + k, u, value, slope);
        ROWS for (int64_t r = 0; r < B; r++) {
            values[r] += weight * value[r];
            slopes[r] += weight * scale * slope[r];
        }
    }
}

/* u stands in the pass's features. */
static void nodes_forward(const Job *job, int wants_amplitudes) {
    const Layer *l = job->layer;
    const int64_t B = job->B;
    real *u = job->pass->features;
    product(l->n_outputs, B, l->n_inputs, job->row + l->weight, 1, l->n_padded, job->pass->x, B, u, B, (Start){0, 0});
    for (int64_t o = 0; o < l->n_outputs; o++) {
        real *y = job->pass->y + o * B, squares = 0;
        node_curve(job, o, u + o * B, y, job->pass->slopes + o * B);
        if (wants_amplitudes) {
            ROWS_SUMMING(squares) for (int64_t r = 0; r < job->n; r++) squares += y[r] * y[r];
            job->pass->amplitudes[o] = root(squares / job->n);
        }
        ROWS for (int64_t r = 0; r < B; r++) y[r] += job->row[l->constant + o];
    }
}

static void nodes_backward(const Job *job, int wants_x, int is_penalised, real *gradients) {
    const Layer *l = job->layer;
    const Scratch *scratch = job->scratch;
    const int64_t I = l->n_inputs, O = l->n_outputs, P = l->n_padded, K = l->n_functions, B = job->B, n = job->n;
    real *value = scratch->nodes, *slope = value + B;
    sums_of_rows(O, B, scratch->of_y, gradients + l->constant);
    for (int64_t o = 0; o < O; o++) {
        const real *u = job->pass->features + o * B, *y = job->pass->y + o * B, *slopes = job->pass->slopes + o * B;
        const real c = job->row[l->constant + o];
        real *of_y = scratch->of_y + o * B;
        if (is_penalised) {
            const real pull = job->pass->amplitudes[o] / n;
            ROWS for (int64_t r = 0; r < n; r++) of_y[r] += pull * (y[r] - c);
        }
        for (int64_t k = 0; k < (l->kind == NODE ? 1 : K); k++) {
            const real scale = l->kind == NODE ? scale_of(job->row[l->first + o]) : job->fixed[l->scales + k];
            const real *shift = l->kind == NODE ? job->row + l->second + o : job->fixed + l->shifts + k;
            curves_of[l->function](1, B, &scale, shift, u, value, slope);
            real of_a = 0;
            ROWS_SUMMING(of_a) for (int64_t r = 0; r < B; r++) of_a += of_y[r] * value[r];
            gradients[l->third + (l->kind == NODE ? o : o * K + k)] = of_a;
        }
        if (l->kind == NODE) {
            const real a = job->row[l->third + o], s = job->row[l->first + o];
            real of_b = 0, of_d = 0;
            ROWS_SUMMING(of_b, of_d) for (int64_t r = 0; r < B; r++) {
                const real of_phase = of_y[r] * a * slope[r];
                of_b += of_phase * u[r];
                of_d += of_phase;
            }
            gradients[l->first + o] = s >= -LARGEST_S && s <= LARGEST_S ? of_b * scale_of(s) : 0;
            gradients[l->second + o] = of_d;
        }
        ROWS for (int64_t r = 0; r < B; r++) of_y[r] *= slopes[r];
    }
    for (int64_t r = 0; r < B; r++)
        for (int64_t o = 0; o < P; o++) scratch->turned[r * P + o] = o < O ? scratch->of_y[o * B + r] : 0;
    product(I, P, B, job->pass->x, B, 1, scratch->turned, P, gradients + l->weight, P, (Start){0, 0});
    if (wants_x) product(I, B, O, job->row + l->weight, P, 1, scratch->of_y, B, scratch->of_x, B, (Start){0, 0});
}

#endif
