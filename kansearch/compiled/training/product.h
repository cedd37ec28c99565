/* Layers that are one product of weights with features: ordinary ones, dictionaries, shared and scaled ones.

       y_o = sum_f W_fo F_f + c_o

   W (F P) lies feature by feature: `weight` and `constant` (O) of the row. In a scaled layer W follows from a and s. */

#ifndef KANSEARCH_PRODUCT_H
#define KANSEARCH_PRODUCT_H

#include "features.h"

/* --- scaled layers: W_ik,o = a_io l_k(tanh s_io), shares of scales b_k between which a polynomial interpolates ----

   See kansearch/models/scaled.py. `weight` is a (I P), `first` is s (I P), to_nodes (K K) from polynomials to shares. Of
   relu W is a 4^tanh(s), exactly. */

static const real LARGEST_LOG = 1.3862943611198906; /* log 4 */
enum { MOST_NODES = 64 };

/* The shares l_k of all nodes at u, and their slopes there. */
static void shares_of_nodes(int64_t K, const real *to_nodes, real u, real *shares, real *slopes) {
    for (int64_t k = 0; k < K; k++) shares[k] = slopes[k] = 0;
    real before = 0, last = 1, slope_before = 0, slope = 0; /* T_0 is 1, and T_1 is u */
    for (int64_t m = 0; m < K; m++) {
        for (int64_t k = 0; k < K; k++) {
            shares[k] += to_nodes[m * K + k] * last;
            slopes[k] += to_nodes[m * K + k] * slope;
        }
        const real next = m == 0 ? u : 2 * u * last - before;
        const real slope_next = m == 0 ? 1 : 2 * last + 2 * u * slope - slope_before;
        before = last, last = next, slope_before = slope, slope = slope_next;
    }
}

static void scaled_weights(const Job *job) {
    const Layer *l = job->layer;
    const int64_t K = l->n_functions, P = l->n_padded;
    real shares[MOST_NODES], slopes[MOST_NODES];
    for (int64_t i = 0; i < l->n_inputs; i++)
        for (int64_t o = 0; o < l->n_outputs; o++) {
            const real a = job->row[l->weight + i * P + o], u = hyperbolic_tangent(job->row[l->first + i * P + o]).value;
            if (l->to_nodes < 0) {
                job->pass->weights[i * P + o] = a * exponential(LARGEST_LOG * u);
                continue;
            }
            shares_of_nodes(K, job->fixed + l->to_nodes, u, shares, slopes);
            for (int64_t k = 0; k < K; k++) job->pass->weights[(i * K + k) * P + o] = a * shares[k];
        }
}

static void scaled_weights_backward(const Job *job, real *gradients) {
    const Layer *l = job->layer;
    const int64_t K = l->n_functions, P = l->n_padded;
    const real *of_weights = job->scratch->of_weights;
    real shares[MOST_NODES], slopes[MOST_NODES];
    for (int64_t i = 0; i < l->n_inputs; i++)
        for (int64_t o = 0; o < l->n_outputs; o++) {
            const real a = job->row[l->weight + i * P + o];
            const Point u = hyperbolic_tangent(job->row[l->first + i * P + o]);
            real of_a = 0, of_u = 0;
            if (l->to_nodes < 0) {
                const real scale = exponential(LARGEST_LOG * u.value);
                of_a = of_weights[i * P + o] * scale;
                of_u = of_a * a * LARGEST_LOG;
            } else {
                shares_of_nodes(K, job->fixed + l->to_nodes, u.value, shares, slopes);
                for (int64_t k = 0; k < K; k++) {
                    of_a += of_weights[(i * K + k) * P + o] * shares[k];
                    of_u += of_weights[(i * K + k) * P + o] * a * slopes[k];
                }
            }
            gradients[l->weight + i * P + o] = of_a;
            gradients[l->first + i * P + o] = of_u * u.slope;
        }
}

/* --- amplitudes: A_io = sqrt(w_io^T C_i w_io), from the mean products C_i of the features of an input ------------- */

static const real *weights_of(const Job *job) {
    return job->layer->kind == SCALED ? job->pass->weights : job->row + job->layer->weight;
}

/* C_i w_io of one input for all outputs (J P). */
static void moments_by_weights(const Job *job, int64_t i, real *found) {
    const int64_t J = n_features_each(job->layer), P = job->layer->n_padded;
    product(J, P, J, job->pass->moments + i * J * J, J, 1, weights_of(job) + i * J * P, P, found, P, (Start){0, 0});
}

static void product_amplitudes(const Job *job) {
    const Layer *l = job->layer;
    const Pass *pass = job->pass;
    const int64_t J = n_features_each(l), P = l->n_padded, B = job->B, n = job->n;
    real *found = job->scratch->small;
    for (int64_t i = 0; i < l->n_inputs; i++) {
        real *f = pass->features + i * J * B, *moments = pass->moments + i * J * J, *a = pass->amplitudes + i * P;
        for (int64_t j = 0; j < J && n < B; j++) memset(f + j * B + n, 0, (B - n) * sizeof(real));
        sums_of_products(J, J, B, f, B, f, B, moments, J);
        for (int64_t j = 0; j < J * J; j++) moments[j] /= n;
        moments_by_weights(job, i, found);
        const real *w = weights_of(job) + i * J * P;
        memset(a, 0, P * sizeof(real));
        for (int64_t j = 0; j < J; j++)
            ROWS for (int64_t o = 0; o < P; o++) a[o] += w[j * P + o] * found[j * P + o];
        ROWS for (int64_t o = 0; o < P; o++) a[o] = a[o] > 0 ? root(a[o]) : 0;
    }
}

/* What the penalties add to the gradients of weights and features. */
static void product_amplitudes_backward(const Job *job, int wants_features, real *of_weights) {
    const Layer *l = job->layer;
    const int64_t J = n_features_each(l), P = l->n_padded, B = job->B;
    real *found = job->scratch->small, *pulled = found + J * P, *between = pulled + J * P;
    for (int64_t i = 0; i < l->n_inputs; i++) {
        const real *pulls = job->pass->amplitudes + i * P, *w = weights_of(job) + i * J * P;
        real *of_w = of_weights + i * J * P;
        moments_by_weights(job, i, found);
        for (int64_t j = 0; j < J; j++)
            ROWS for (int64_t o = 0; o < P; o++) of_w[j * P + o] += pulls[o] * found[j * P + o];
        if (!wants_features) continue;
        for (int64_t j = 0; j < J; j++)
            ROWS for (int64_t o = 0; o < P; o++) pulled[j * P + o] = pulls[o] * w[j * P + o] / job->n;
        if (P % LANES) { /* few outputs: no whole vector */
            for (int64_t j = 0; j < J; j++)
                for (int64_t k = 0; k < J; k++) {
                    real sum = 0;
                    for (int64_t o = 0; o < P; o++) sum += pulled[j * P + o] * w[k * P + o];
                    between[j * J + k] = sum;
                }
        } else {
            sums_of_products(J, J, P, pulled, P, w, P, between, J);
        }
        product(J, B, J, between, J, 1, job->pass->features + i * J * B, B, job->scratch->of_features + i * J * B, B,
                (Start){0, 1});
    }
}

/* --- the layer ---------------------------------------------------------------------------------------------------- */

/* Whether the way back needs the slopes of the features. */
INLINE int wants_features(const Layer *l, int wants_x) {
    return l->kind != LINEAR && (wants_x || learns_functions(l->kind));
}

static void product_forward(const Job *job, int learns, int wants_x, int wants_amplitudes) {
    const Layer *l = job->layer;
    const int64_t n_all = l->n_inputs * n_features_each(l);
    if (l->kind != LINEAR) features(job, learns && wants_features(l, wants_x));
    if (l->kind == SCALED) scaled_weights(job);
    product(l->n_outputs, job->B, n_all, weights_of(job), 1, l->n_padded, job->pass->features, job->B, job->pass->y,
            job->B, (Start){job->row + l->constant, 0});
    if (wants_amplitudes) product_amplitudes(job);
}

static void product_backward(const Job *job, int wants_x, int is_penalised, real *gradients) {
    const Layer *l = job->layer;
    const Scratch *scratch = job->scratch;
    const int64_t O = l->n_outputs, P = l->n_padded, B = job->B, n_all = l->n_inputs * n_features_each(l);
    real *of_weights = l->kind == SCALED ? scratch->of_weights : gradients + l->weight;
    sums_of_rows(O, B, scratch->of_y, gradients + l->constant);
    for (int64_t r = 0; r < B; r++)
        for (int64_t o = 0; o < P; o++) scratch->turned[r * P + o] = o < O ? scratch->of_y[o * B + r] : 0;
    product(n_all, P, B, job->pass->features, B, 1, scratch->turned, P, of_weights, P, (Start){0, 0});
    const int through_features = wants_features(l, wants_x);
    real *of_features = l->kind == LINEAR ? scratch->of_x : scratch->of_features;
    if (through_features || (wants_x && l->kind == LINEAR))
        product(n_all, B, O, weights_of(job), P, 1, scratch->of_y, B, of_features, B, (Start){0, 0});
    if (is_penalised && l->kind != LINEAR) product_amplitudes_backward(job, through_features, of_weights);
    if (through_features) features_backward(job, wants_x, gradients);
    if (l->kind == SCALED) scaled_weights_backward(job, gradients);
}

#endif
