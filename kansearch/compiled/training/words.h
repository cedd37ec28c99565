/* The embedding of texts: the sum of the vectors of a text's words, over the root of how many they are.

       y_o = sum_t W_w(t),o / sqrt(T),  T the words that are there; word 0 is none

   Inputs are the numbers of words, one place of the text each; `weight` is W (V P). */

#ifndef KANSEARCH_WORDS_H
#define KANSEARCH_WORDS_H

#include "layer.h"

/* The weight of each word of a text. */
INLINE real share_of_words(const Job *job, int64_t r) {
    int64_t n_words = 0;
    for (int64_t t = 0; t < job->layer->n_inputs; t++) n_words += job->pass->x[t * job->B + r] != 0;
    return n_words ? 1 / root(n_words) : 0;
}

static void words_forward(const Job *job) {
    const Layer *l = job->layer;
    const int64_t O = l->n_outputs, P = l->n_padded, B = job->B;
    real *sums = job->scratch->turned;
    memset(sums, 0, B * P * sizeof(real));
    for (int64_t r = 0; r < job->n; r++) {
        const real share = share_of_words(job, r);
        for (int64_t t = 0; t < l->n_inputs; t++) {
            const int64_t word = job->pass->x[t * B + r];
            const real *vector = job->row + l->weight + word * P;
            if (word) ROWS for (int64_t o = 0; o < P; o++) sums[r * P + o] += share * vector[o];
        }
    }
    for (int64_t o = 0; o < O; o++)
        for (int64_t r = 0; r < B; r++) job->pass->y[o * B + r] = sums[r * P + o];
}

static void words_backward(const Job *job, real *gradients) {
    const Layer *l = job->layer;
    const int64_t O = l->n_outputs, P = l->n_padded, B = job->B;
    real *turned = job->scratch->turned;
    for (int64_t r = 0; r < B; r++)
        for (int64_t o = 0; o < P; o++) turned[r * P + o] = o < O ? job->scratch->of_y[o * B + r] : 0;
    memset(gradients + l->weight, 0, l->n_words * P * sizeof(real));
    for (int64_t r = 0; r < job->n; r++) {
        const real share = share_of_words(job, r);
        for (int64_t t = 0; t < l->n_inputs; t++) {
            const int64_t word = job->pass->x[t * B + r];
            real *of_vector = gradients + l->weight + word * P;
            if (word) ROWS for (int64_t o = 0; o < P; o++) of_vector[o] += share * turned[r * P + o];
        }
    }
}

#endif
