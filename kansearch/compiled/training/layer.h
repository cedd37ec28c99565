/* What a layer is, and where its numbers lie.

   Rows of a batch stand side by side: number i of row r lies at [i B + r], and B is a multiple of ROW_MULTIPLE. Rows
   beyond the n real ones only fill up: nothing is summed over them but zeros.

   Letters: B rows, n of them real; I inputs, O outputs, P outputs filled up; K functions of an input (or node); J = K
   and one more with a base branch; F = I J features. */

#ifndef KANSEARCH_LAYER_H
#define KANSEARCH_LAYER_H

#include "../functions.h"
#include "products.h"

/* In the order of kansearch/compiled/trainer.py. */
enum Kind { LINEAR, ATOMS, COPIES, CHEBYSHEV, RATIONAL, SHARED, SCALED, EDGE, NODE, MIXTURE, WORDS };

/* Whether a layer is one product of weights with features of its inputs; else its curves are edges' or nodes'. */
INLINE int is_product(int64_t kind) { return kind < EDGE; }
INLINE int has_curves(int64_t kind) { return kind != LINEAR && kind != WORDS; }

/* Places count numbers from the beginning of a trial's row, or of its fixed numbers; -1 where there is nothing. */
typedef struct {
    int64_t kind, n_inputs, n_outputs, n_padded, n_functions;
    int64_t function, branch; /* numbers of functions.h; no branch: -1 */
    int64_t weight, constant, first, second, third; /* what they are stands beside each kind */
    int64_t scales, shifts, to_nodes;               /* among the fixed numbers */
    int64_t norm;       /* weights and then constants of a layer norm behind it, each filled up as outputs are */
    int64_t activation; /* behind it */
    int64_t drops;      /* whether dropout acts behind it */
    int64_t n_words;    /* V, of an embedding */
} Layer;

INLINE int64_t n_features_each(const Layer *l) {
    return l->kind == LINEAR ? 1 : l->n_functions + (l->branch >= 0 ? 1 : 0);
}

/* Where one layer's share of a pass lies. */
typedef struct {
    real *x;          /* I B: what it sees */
    real *features;   /* F B */
    real *slopes;     /* F B: of the features; of nodes' curves O B */
    real *weights;    /* F P: where they are no numbers of the row but follow from them */
    real *y;          /* O B: what it gives */
    real *amplitudes; /* I P; of edges O I, of nodes O: root mean squares of the curves; then how they are pulled at */
    real *moments;    /* I J J: mean products of the features of an input */
    real *active;     /* O B: behind the activation */
    real *normed;     /* O B: behind the norm, before its own scales and shifts */
    real *spread;     /* B: of the norm */
    real *bends;      /* O B: slopes of the activation behind it */
    real *mask;       /* O B: of dropout */
} Pass;

/* Where gradients lie that nobody needs for long. */
typedef struct {
    real *of_y;        /* O B */
    real *of_x;        /* I B */
    real *of_features; /* F B */
    real *turned;      /* B P: of_y, row by row */
    real *of_weights;  /* F P */
    real *small;       /* 3 J (P or J) */
    real *nodes;       /* 2 B */
} Scratch;

/* One layer at work. */
typedef struct {
    const Layer *layer;
    const real *row;   /* the trial's numbers */
    const real *fixed; /* numbers that nobody learns */
    Pass *pass;
    Scratch *scratch;
    int64_t B, n;
} Job;

/* What all penalties of a batch weigh: of the amplitudes' sum, and of their entropy in each layer. */
typedef struct {
    real l1, entropy;
} Penalties;

INLINE int is_penalised(Penalties p) { return p.l1 > 0 || p.entropy > 0; }

/* From the amplitudes of a layer to how hard the penalties pull at each: their slope over the amplitude, in its place; 0
   where a curve is 0.

   Source of the entropy: Liu et al. (2024), KAN, arXiv:2404.19756, equation 2.20, with a grain of amplitude everywhere.
   With s = (A + grain) / S and H = -sum s log s its slope is -(log s + H) / S. */
static void pull(real *amplitudes, int64_t n_groups, int64_t n_each, int64_t apart, Penalties penalties) {
    const double grain = IS_FLOAT ? 1.1920928955078125e-07 : 2.220446049250313e-16;
    double sum = 0, entropy = 0;
    if (penalties.entropy > 0) {
        for (int64_t g = 0; g < n_groups; g++)
            for (int64_t e = 0; e < n_each; e++) sum += amplitudes[g * apart + e] + grain;
        for (int64_t g = 0; g < n_groups; g++)
            for (int64_t e = 0; e < n_each; e++) {
                const double share = (amplitudes[g * apart + e] + grain) / sum;
                entropy -= share * log(share);
            }
    }
    for (int64_t g = 0; g < n_groups; g++)
        for (int64_t e = 0; e < n_each; e++) {
            real *a = amplitudes + g * apart + e, slope = penalties.l1;
            if (penalties.entropy > 0) slope -= penalties.entropy * (log((*a + grain) / sum) + entropy) / sum;
            *a = *a > 0 ? slope / *a : 0;
        }
}

/* Sums over the rows of each of some rows of numbers. */
static void sums_of_rows(int64_t n_rows, int64_t B, const real *a, real *sums) {
    for (int64_t m = 0; m < n_rows; m += LANES) {
        vec sum[LANES];
        real of_all[LANES];
        for (int l = 0; l < LANES; l++) {
            sum[l] = (vec){};
            if (m + l < n_rows)
                for (int64_t r = 0; r < B; r += LANES) sum[l] += AT(a + (m + l) * B + r);
        }
        TO(of_all) = sums_of_all(sum);
        for (int l = 0; l < LANES && m + l < n_rows; l++) sums[m + l] = of_all[l];
    }
}

/* f(scale x + shift) of a row of numbers for some scales and shifts, and its slopes there if they are wanted. */
#define DEFINE_CURVES(f)                                                                                               \
    static void curves_of_##f(int64_t n_curves, int64_t B, const real *scales, const real *shifts,                     \
                              const real *restrict x, real *restrict y, real *restrict slopes) {                       \
        for (int64_t k = 0; k < n_curves; k++, y += B) {                                                               \
            const real scale = scales[k], shift = shifts[k];                                                           \
            if (slopes) {                                                                                              \
                ROWS for (int64_t r = 0; r < B; r++) {                                                                 \
                    const Point point = f(scale * x[r] + shift);                                                       \
                    y[r] = point.value;                                                                                \
                    slopes[r] = point.slope;                                                                           \
                }                                                                                                      \
                slopes += B;                                                                                           \
            } else {                                                                                                   \
                ROWS for (int64_t r = 0; r < B; r++) y[r] = f(scale * x[r] + shift).value;                             \
            }                                                                                                          \
        }                                                                                                              \
    }
EVERY_FUNCTION(DEFINE_CURVES)
typedef void (*Curves)(int64_t, int64_t, const real *, const real *, const real *, real *, real *);
#define CURVES_OF(f) curves_of_##f,
static const Curves curves_of[] = {EVERY_FUNCTION(CURVES_OF)};

#endif
