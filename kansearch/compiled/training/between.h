/* What stands between layers, in this order: layer norm, activation, dropout; and the losses behind the last one. */

#ifndef KANSEARCH_BETWEEN_H
#define KANSEARCH_BETWEEN_H

#include "features.h"

static const real NORM_EPS = 1e-5; /* as kansearch.models.network.RowNorm has it */

/* z_o = w_o (y_o - mean) / sqrt(variance + eps) + b_o over the nodes of each row; `norm` is w (P) and then b (P). */
static void norm_forward(const Job *job, real *z) {
    const Layer *l = job->layer;
    const int64_t O = l->n_outputs, B = job->B;
    const real *w = job->row + l->norm, *b = w + l->n_padded, *y = job->pass->y;
    real *normed = job->pass->normed, *spread = job->pass->spread, *mean = job->scratch->nodes;
    memset(mean, 0, B * sizeof(real));
    memset(spread, 0, B * sizeof(real));
    for (int64_t o = 0; o < O; o++) ROWS for (int64_t r = 0; r < B; r++) mean[r] += y[o * B + r];
    ROWS for (int64_t r = 0; r < B; r++) mean[r] /= O;
    for (int64_t o = 0; o < O; o++)
        ROWS for (int64_t r = 0; r < B; r++) {
            const real centred = y[o * B + r] - mean[r];
            normed[o * B + r] = centred;
            spread[r] += centred * centred;
        }
    ROWS for (int64_t r = 0; r < B; r++) spread[r] = 1 / root(spread[r] / O + NORM_EPS);
    for (int64_t o = 0; o < O; o++)
        ROWS for (int64_t r = 0; r < B; r++) {
            normed[o * B + r] *= spread[r];
            z[o * B + r] = normed[o * B + r] * w[o] + b[o];
        }
}

/* of_z becomes of_y, in its place. */
static void norm_backward(const Job *job, real *of_z, real *gradients) {
    const Layer *l = job->layer;
    const int64_t O = l->n_outputs, B = job->B;
    const real *w = job->row + l->norm, *normed = job->pass->normed, *spread = job->pass->spread;
    real *mean = job->scratch->nodes, *along = mean + B;
    memset(mean, 0, 2 * B * sizeof(real));
    for (int64_t o = 0; o < O; o++) {
        real of_w = 0, of_b = 0, *of = of_z + o * B;
        const real *at = normed + o * B;
        ROWS_SUMMING(of_w, of_b) for (int64_t r = 0; r < B; r++) {
            of_w += of[r] * at[r];
            of_b += of[r];
        }
        gradients[l->norm + o] = of_w;
        gradients[l->norm + l->n_padded + o] = of_b;
        ROWS for (int64_t r = 0; r < B; r++) {
            of[r] *= w[o];
            mean[r] += of[r];
            along[r] += of[r] * at[r];
        }
    }
    for (int64_t o = 0; o < O; o++)
        ROWS for (int64_t r = 0; r < B; r++) {
            real *of = of_z + o * B + r;
            *of = spread[r] * (*of - (mean[r] + normed[o * B + r] * along[r]) / O);
        }
}

/* Silence nodes where a number drawn from 0 to 1 is not below the share that stays, and scale up the others. `uniforms`
   lies row by row, as torch draws it. */
static void draw_mask(int64_t O, int64_t B, int64_t n, const float *uniforms, double keep, real *mask) {
    const float below = keep;
    const real scale = 1 / (real)keep;
    for (int64_t o = 0; o < O; o++) {
        real *of_node = mask + o * B;
        ROWS for (int64_t r = 0; r < n; r++) of_node[r] = uniforms[r * O + o] < below ? scale : 0;
        for (int64_t r = n; r < B; r++) of_node[r] = 0;
    }
}

/* What the next layer sees. */
static void between_forward(const Job *job, int learns, const float *uniforms, double keep, real *next) {
    const Layer *l = job->layer;
    const Pass *pass = job->pass;
    const int64_t n_all = l->n_outputs * job->B;
    const real *last = pass->y;
    if (l->norm >= 0) {
        norm_forward(job, next);
        last = next;
    }
    if (l->activation >= 0)
        curves_of[l->activation](1, n_all, &ONE, &NONE, last, pass->active, learns ? pass->bends : 0), last = pass->active;
    if (learns && uniforms) {
        draw_mask(l->n_outputs, job->B, job->n, uniforms, keep, pass->mask);
        ROWS for (int64_t e = 0; e < n_all; e++) next[e] = last[e] * pass->mask[e];
    } else if (last != next) {
        memcpy(next, last, n_all * sizeof(real));
    }
}

/* From the gradient of what the next layer sees to that of what this one gave. */
static void between_backward(const Job *job, int dropped, const real *of_next, real *of_y, real *gradients) {
    const Layer *l = job->layer;
    const Pass *pass = job->pass;
    const int64_t n_all = l->n_outputs * job->B;
    if (dropped) {
        ROWS for (int64_t e = 0; e < n_all; e++) of_y[e] = of_next[e] * pass->mask[e];
    } else {
        memcpy(of_y, of_next, n_all * sizeof(real));
    }
    if (l->activation >= 0)
        ROWS for (int64_t e = 0; e < n_all; e++) of_y[e] *= pass->bends[e];
    if (l->norm >= 0) norm_backward(job, of_y, gradients);
}

/* Targets of some rows: classes, or numbers where there are none; and how much each counts, where not all count alike. */
typedef struct {
    const int64_t *classes;
    const real *numbers, *weights;
} Targets;

/* The summed loss of the real rows, each times its weight: cross entropy in nats of C classes, or squared errors of one
   output; and, if it is wanted, the gradient of the mean. `nodes` has room for two rows. */
static double loss(int64_t C, int64_t B, int64_t n, const real *y, Targets targets, real *of_y, real *nodes) {
    double total = 0;
    if (!targets.classes) {
        for (int64_t r = 0; r < n; r++) {
            const real error = y[r] - targets.numbers[r], square = error * error;
            total += square;
            if (of_y) of_y[r] = 2 * error / n;
        }
        for (int64_t r = n; r < B && of_y; r++) of_y[r] = 0;
        if (!targets.weights) return total;
        total = 0;
        for (int64_t r = 0; r < n; r++) {
            const real error = y[r] - targets.numbers[r];
            total += targets.weights[r] * error * error;
            if (of_y) of_y[r] *= targets.weights[r];
        }
        return total;
    }
    real *top = nodes, *sum = nodes + B;
    memcpy(top, y, B * sizeof(real));
    memset(sum, 0, B * sizeof(real));
    for (int64_t c = 1; c < C; c++)
        ROWS for (int64_t r = 0; r < B; r++) top[r] = y[c * B + r] > top[r] ? y[c * B + r] : top[r];
    for (int64_t c = 0; c < C; c++)
        ROWS for (int64_t r = 0; r < B; r++) {
            const real share = exponential(y[c * B + r] - top[r]);
            sum[r] += share;
            if (of_y) of_y[c * B + r] = share;
        }
    if (targets.weights)
        for (int64_t r = 0; r < n; r++)
            total += targets.weights[r] * (log(sum[r]) + top[r] - y[targets.classes[r] * B + r]);
    else
        for (int64_t r = 0; r < n; r++) total += log(sum[r]) + top[r] - y[targets.classes[r] * B + r];
    if (!of_y) return total;
    for (int64_t r = 0; r < B; r++) sum[r] = r < n ? 1 / (sum[r] * n) : 0;
    for (int64_t c = 0; c < C; c++)
        ROWS for (int64_t r = 0; r < B; r++) of_y[c * B + r] *= sum[r];
    for (int64_t r = 0; r < n; r++) of_y[targets.classes[r] * B + r] -= (real)1 / n;
    if (targets.weights)
        for (int64_t c = 0; c < C; c++)
            ROWS for (int64_t r = 0; r < n; r++) of_y[c * B + r] *= targets.weights[r];
    return total;
}

#endif
