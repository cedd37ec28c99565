/* Features: the functions of an input whose weighted sums are the curves of a layer, and the way back through them.

       features F_ik = f_k(scale_ik x_i + shift_ik), k = 0 ... K - 1, and base(x_i) behind them with a base branch

   Slopes are those in the phase scale x + shift. */

#ifndef KANSEARCH_FEATURES_H
#define KANSEARCH_FEATURES_H

#include "layer.h"

static const real ONE = 1, NONE = 0;
static const real LARGEST_S = 3; /* scales are exp(s) with s within so much of 0, as in kansearch/models/kernel.py */

INLINE real scale_of(real s) { return exponential(at_most(LARGEST_S, at_least(-LARGEST_S, s))); }

/* T_1 ... T_K of tanh of the phase.

   Source: SS et al. (2024), Chebyshev polynomial-based KAN, arXiv:2405.07200; the recursion T_k = 2 t T_k-1 - T_k-2. */
static void chebyshev(int64_t K, int64_t B, real scale, real shift, const real *restrict x, real *restrict y,
                      real *restrict slopes) {
    for (int64_t r = 0; r < B; r += LANES) {
        real t_of[LANES], bend_of[LANES];
        ROWS for (int l = 0; l < LANES; l++) {
            const Point t = hyperbolic_tangent(scale * x[r + l] + shift);
            t_of[l] = t.value;
            bend_of[l] = t.slope;
        }
        const vec t = AT(t_of), bend = AT(bend_of);
        vec before = (vec){} + 1, last = t, slope_before = (vec){}, slope = (vec){} + 1;
        for (int64_t k = 0; k < K; k++) {
            TO(y + k * B + r) = last;
            if (slopes) TO(slopes + k * B + r) = slope * bend;
            const vec next = 2 * t * last - before, slope_next = 2 * last + 2 * t * slope - slope_before;
            before = last, last = next, slope_before = slope, slope = slope_next;
        }
    }
}

/* P(u) / (1 + |Q(u)|), with P of degree 5 and Q of degree 4 without a constant.

   Source: Molina et al. (2020), Pade activation units, arXiv:1907.06732, equation 3. */
enum { NUMERATOR = 6, DENOMINATOR = 4, RATIONAL_GROUPS = 8 };

typedef struct {
    real p, q, p_slope, q_slope; /* Q without its absolute value */
} Quotient;

INLINE Quotient quotient(const real *p, const real *q, real u) {
    Quotient found = {p[5], q[3], 0, 0};
    UNROLL for (int c = NUMERATOR - 2; c >= 0; c--) {
        found.p_slope = found.p_slope * u + found.p;
        found.p = found.p * u + p[c];
    }
    UNROLL for (int c = DENOMINATOR - 2; c >= 0; c--) {
        found.q_slope = found.q_slope * u + found.q;
        found.q = found.q * u + q[c];
    }
    found.q_slope = found.q_slope * u + found.q;
    found.q = found.q * u;
    return found;
}

static void rational(int64_t K, int64_t B, const real *p, const real *q, const real *scales, const real *shifts,
                     const real *restrict x, real *restrict y, real *restrict slopes) {
    for (int64_t k = 0; k < K; k++) {
        const real *restrict p_k = p + k * NUMERATOR, *restrict q_k = q + k * DENOMINATOR;
        const real scale = scales[k], shift = shifts[k];
        ROWS for (int64_t r = 0; r < B; r++) {
            const Quotient at = quotient(p_k, q_k, scale * x[r] + shift);
            const real below = 1 / (1 + magnitude(at.q)), value = at.p * below;
            y[k * B + r] = value;
            if (slopes) slopes[k * B + r] = (at.p_slope - value * (at.q < 0 ? -at.q_slope : at.q_slope)) * below;
        }
    }
}

/* What the coefficients of one input's functions learn; they are shared by every eighth input, so it adds up. */
static void rational_backward(int64_t K, int64_t B, const real *p, const real *q, const real *scales,
                              const real *shifts, const real *restrict x, const real *restrict of_y, real *of_p,
                              real *of_q) {
    for (int64_t k = 0; k < K; k++) {
        const real *p_k = p + k * NUMERATOR, *q_k = q + k * DENOMINATOR, *of_y_k = of_y + k * B;
        const real scale = scales[k], shift = shifts[k];
        real p0 = 0, p1 = 0, p2 = 0, p3 = 0, p4 = 0, p5 = 0, q1 = 0, q2 = 0, q3 = 0, q4 = 0;
        ROWS_SUMMING(p0, p1, p2, p3, p4, p5, q1, q2, q3, q4) for (int64_t r = 0; r < B; r++) {
            const real u = scale * x[r] + shift, u2 = u * u;
            const Quotient at = quotient(p_k, q_k, u);
            const real below = 1 / (1 + magnitude(at.q)), of_p_u = of_y_k[r] * below;
            const real of_q_u = -of_p_u * at.p * below * (at.q < 0 ? (real)-1 : (real)1);
            p0 += of_p_u, p1 += of_p_u * u, p2 += of_p_u * u2;
            p3 += of_p_u * u2 * u, p4 += of_p_u * u2 * u2, p5 += of_p_u * u2 * u2 * u;
            q1 += of_q_u * u, q2 += of_q_u * u2, q3 += of_q_u * u2 * u, q4 += of_q_u * u2 * u2;
        }
        const real sums_p[] = {p0, p1, p2, p3, p4, p5}, sums_q[] = {q1, q2, q3, q4};
        for (int c = 0; c < NUMERATOR; c++) of_p[k * NUMERATOR + c] += sums_p[c];
        for (int c = 0; c < DENOMINATOR; c++) of_q[k * DENOMINATOR + c] += sums_q[c];
    }
}

/* Whether the functions have parameters of their own: atoms beta (I K) and gamma (I K), `first` and `second`; a shared
   layer s (I) and d (I); rational functions p (G K 6) and q (G K 4). */
INLINE int learns_functions(int64_t kind) { return kind == ATOMS || kind == SHARED || kind == RATIONAL; }

INLINE int64_t n_rational_groups(const Layer *l) {
    return l->n_inputs < RATIONAL_GROUPS ? l->n_inputs : RATIONAL_GROUPS;
}

/* The scale of function k of input i. */
INLINE real scale_at(const Job *job, int64_t i, int64_t k) {
    const Layer *l = job->layer;
    switch (l->kind) {
    case ATOMS: return job->row[l->first + i * l->n_functions + k];
    case SHARED: return scale_of(job->row[l->first + i]);
    case CHEBYSHEV: return job->fixed[l->scales + i];
    default: return job->fixed[l->scales + i * l->n_functions + k];
    }
}

/* All features of a batch. */
static void features(const Job *job, int want_slopes) {
    const Layer *l = job->layer;
    const Pass *pass = job->pass;
    const int64_t K = l->n_functions, J = n_features_each(l), B = job->B;
    const real *row = job->row, *fixed = job->fixed;
    for (int64_t i = 0; i < l->n_inputs; i++) {
        const real *x = pass->x + i * B;
        real *y = pass->features + i * J * B, *slopes = want_slopes ? pass->slopes + i * J * B : 0;
        switch (l->kind) {
        case ATOMS:
            curves_of[l->function](K, B, row + l->first + i * K, row + l->second + i * K, x, y, slopes);
            break;
        case SHARED: {
            const real scale = scale_of(row[l->first + i]);
            curves_of[l->function](1, B, &scale, row + l->second + i, x, y, slopes);
            break;
        }
        case CHEBYSHEV: chebyshev(K, B, fixed[l->scales + i], fixed[l->shifts + i], x, y, slopes); break;
        case RATIONAL: {
            const int64_t group = i % n_rational_groups(l);
            rational(K, B, row + l->first + group * K * NUMERATOR, row + l->second + group * K * DENOMINATOR,
                     fixed + l->scales + i * K, fixed + l->shifts + i * K, x, y, slopes);
            break;
        }
        default:
            curves_of[l->function](K, B, fixed + l->scales + i * K, fixed + l->shifts + i * K, x, y, slopes);
        }
        if (l->branch >= 0) curves_of[l->branch](1, B, &ONE, &NONE, x, y + K * B, slopes ? slopes + K * B : 0);
    }
}

/* From the gradients of features to those of inputs (if they are wanted) and of the functions' parameters. */
static void features_backward(const Job *job, int wants_x, real *gradients) {
    const Layer *l = job->layer;
    const int64_t K = l->n_functions, J = n_features_each(l), B = job->B;
    const int sums = l->kind == ATOMS || l->kind == SHARED;
    if (l->kind == RATIONAL) {
        memset(gradients + l->first, 0, n_rational_groups(l) * K * NUMERATOR * sizeof(real));
        memset(gradients + l->second, 0, n_rational_groups(l) * K * DENOMINATOR * sizeof(real));
    }
    for (int64_t i = 0; i < l->n_inputs; i++) {
        const real *x = job->pass->x + i * B;
        const real *of_y = job->scratch->of_features + i * J * B, *slopes = job->pass->slopes + i * J * B;
        real *of_x = job->scratch->of_x + i * B;
        if (wants_x) memset(of_x, 0, B * sizeof(real));
        if (l->kind == RATIONAL) {
            const int64_t group = i % n_rational_groups(l), p = l->first + group * K * NUMERATOR,
                          q = l->second + group * K * DENOMINATOR;
            rational_backward(K, B, job->row + p, job->row + q, job->fixed + l->scales + i * K,
                              job->fixed + l->shifts + i * K, x, of_y, gradients + p, gradients + q);
        }
        enum { AT_ONCE = LANES / 2 };
        for (int64_t first = 0; first < J; first += AT_ONCE) {
            vec sum[LANES]; /* of scales, then of shifts */
            for (int v = 0; v < LANES; v++) sum[v] = (vec){};
            for (int64_t k = first; k < J && k < first + AT_ONCE; k++) {
                const real scale = k < K ? scale_at(job, i, k) : 1;
                vec of_scale = (vec){}, of_shift = (vec){};
                for (int64_t r = 0; r < B; r += LANES) {
                    const vec of_phase = AT(of_y + k * B + r) * AT(slopes + k * B + r);
                    of_scale += of_phase * AT(x + r);
                    of_shift += of_phase;
                    if (wants_x) TO(of_x + r) += of_phase * scale;
                }
                sum[k - first] = of_scale;
                sum[AT_ONCE + k - first] = of_shift;
            }
            if (!sums) continue;
            real found[LANES];
            TO(found) = sums_of_all(sum);
            for (int64_t k = first; k < K && k < first + AT_ONCE; k++) {
                gradients[l->first + i * K + k] = found[k - first];
                gradients[l->second + i * K + k] = found[AT_ONCE + k - first];
            }
        }
        if (l->kind == SHARED) { /* in s, which is cut off at both ends */
            const real s = job->row[l->first + i];
            gradients[l->first + i] *= s >= -LARGEST_S && s <= LARGEST_S ? scale_of(s) : 0;
        }
    }
}

#endif
