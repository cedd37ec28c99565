/* Trains one network for some epochs in one call: batches forward and backward, Adam, and a look at the validation rows
   after each epoch.

   A network is a program: layers in a row (layer.h), what stands between them (between.h), and one row of numbers that
   holds all its parameters. kansearch/training/program.py writes it; torch's own layers and optimizers are the
   reference that tests compare it with. */

#include "between.h"
#include "edges.h"
#include "nodes.h"
#include "product.h"
#include "words.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* To be raised with every change of what a function takes, and of any order of names: kansearch/compiled/trainer.py
   refuses other versions. */
enum { VERSION = 4, ALIGNMENT = 64 };

/* Numbers of a row that are trained alike: `count` pieces of `size` numbers that begin `apart` numbers from each other. */
typedef struct {
    int64_t begin, size, apart, count, group, decayed;
} Segment;

typedef struct {
    const Layer *layers;
    const Segment *segments;
    const real *fixed;
    int64_t n_layers, n_segments, n_groups, batch_size;
} Program;

/* Inputs lie column by column: input i of row r at [i n + r]. */
typedef struct {
    const real *train_x, *validation_x;
    const int64_t *train_classes, *validation_classes;
    const real *train_numbers, *validation_numbers; /* where there are no classes */
    const real *train_weights, *validation_weights; /* 1 on average; or nothing where all rows count alike */
    int64_t n_train, n_validation;
} Data;

/* What some epochs are to be. T steps an epoch, G groups. */
typedef struct {
    const int64_t *order;         /* n_train rows an epoch */
    const double *rates;          /* G a step */
    const uint8_t *free;          /* G an epoch: which groups learn */
    const float *const *uniforms; /* for each row that drops nodes: n_drawn times its nodes a step; or nothing */
    int64_t n_epochs, first_step, n_steps; /* of each epoch; only the last ones end it */
    int64_t n_drawn, patience, decoupled;
    double keep, decay, l1, entropy;
} Plan;

/* What a trial is between two epochs, and what it measures in some. */
typedef struct {
    real *row, *gradients, *first, *second, *best;
    int64_t *ages;    /* G: Adam's steps since each group was freed */
    double *losses;   /* of training and of validation, an epoch */
    real *outputs;    /* O n_validation, of the last epoch */
    double total;     /* loss of the epoch so far, summed over its rows */
    double best_loss; /* with patience: on the validation rows, and how many epochs ago that was */
    int64_t n_since_best;
} State;

enum { MOST_LAYERS = 16 };

typedef struct {
    Pass passes[MOST_LAYERS];
    Scratch scratch;
    int64_t *classes; /* of a batch */
    real *numbers, *weights;
} Memory;

/* --- memory ------------------------------------------------------------------------------------------------------- */

static real *taken(char **free, int64_t n) {
    real *here = (real *)*free;
    *free += filled(n * sizeof(real), ALIGNMENT);
    return here;
}

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* Deal out memory that begins at `begin`; returns how many bytes that takes. */
static int64_t lay_out(const Program *program, char *begin, Memory *memory) {
    char *free = begin;
    const int64_t B = filled(program->batch_size, ROW_MULTIPLE);
    int64_t features = 1, widest = 1, padded = 1, weights = 1, small = 1;
    for (int64_t i = 0; i < program->n_layers; i++) {
        const Layer *l = program->layers + i;
        Pass *pass = memory->passes + i;
        const int64_t I = l->n_inputs, O = l->n_outputs, P = l->n_padded, J = n_features_each(l);
        pass->x = taken(&free, I * B);
        pass->y = taken(&free, O * B);
        const int64_t n_features = is_product(l->kind) ? I * J : O;
        pass->features = l->kind == LINEAR ? pass->x : taken(&free, n_features * B);
        pass->slopes = taken(&free, l->kind == LINEAR ? 0 : n_features * B);
        pass->weights = taken(&free, l->kind == SCALED ? n_features * P : 0);
        pass->amplitudes = taken(&free, has_curves(l->kind) ? I * P : 0);
        pass->moments = taken(&free, has_curves(l->kind) && is_product(l->kind) ? I * J * J : 0);
        pass->active = taken(&free, O * B);
        pass->normed = taken(&free, l->norm >= 0 ? O * B : 0);
        pass->spread = taken(&free, B);
        pass->bends = taken(&free, O * B);
        pass->mask = taken(&free, O * B);
        features = most(features, n_features), widest = most(widest, most(I, O)), padded = most(padded, P);
        weights = most(weights, l->kind == SCALED ? n_features * P : 0);
        small = most(small, 3 * J * most(P, J));
    }
    memory->scratch = (Scratch){
        .of_y = taken(&free, widest * B),
        .of_x = taken(&free, widest * B),
        .of_features = taken(&free, features * B),
        .turned = taken(&free, padded * B),
        .of_weights = taken(&free, weights),
        .small = taken(&free, small),
        .nodes = taken(&free, 2 * B),
    };
    memory->numbers = taken(&free, B);
    memory->weights = taken(&free, B);
    memory->classes = (int64_t *)taken(&free, B * (sizeof(int64_t) / sizeof(real)));
    return free - begin;
}

/* Bytes of memory that the program needs; they begin at a multiple of ALIGNMENT. */
int64_t trainer_memory(const Program *program) {
    Memory memory;
    return program->n_layers > MOST_LAYERS ? -1 : lay_out(program, 0, &memory);
}

/* --- a batch ------------------------------------------------------------------------------------------------------ */

static void gather(int64_t n_inputs, const real *x, int64_t n_all, const int64_t *rows, int64_t n, int64_t B,
                   real *gathered) {
    for (int64_t i = 0; i < n_inputs; i++) {
        const real *from = x + i * n_all;
        real *to = gathered + i * B;
        ROWS for (int64_t r = 0; r < n; r++) to[r] = from[rows[r]];
        for (int64_t r = n; r < B; r++) to[r] = 0;
    }
}

/* Which masks a step has: none where there are no uniforms. */
typedef struct {
    const float *const *uniforms;
    int64_t step, n_drawn;
    double keep;
} Dropout;

static Job job_of(const Program *program, Memory *memory, const real *row, int64_t index, int64_t B, int64_t n) {
    return (Job){program->layers + index, row, program->fixed, memory->passes + index, &memory->scratch, B, n};
}

static void forward(const Program *program, Memory *memory, const real *row, int64_t B, int64_t n, int learns,
                    int penalised, Dropout dropout) {
    int64_t n_dropped = 0;
    for (int64_t index = 0; index < program->n_layers; index++) {
        const Job job = job_of(program, memory, row, index, B, n);
        const Layer *l = job.layer;
        const int wants_amplitudes = penalised && has_curves(l->kind);
        if (l->kind == WORDS) words_forward(&job);
        else if (l->kind == EDGE) edges_forward(&job, wants_amplitudes);
        else if (is_product(l->kind)) product_forward(&job, learns, index > 0, wants_amplitudes);
        else nodes_forward(&job, wants_amplitudes);
        if (index == program->n_layers - 1) return;
        const float *uniforms = 0;
        if (dropout.uniforms && l->drops)
            uniforms = dropout.uniforms[n_dropped++] + dropout.step * dropout.n_drawn * l->n_outputs;
        between_forward(&job, learns, uniforms, dropout.keep, memory->passes[index + 1].x);
    }
}

/* All gradients, from that of the outputs, which stands in the scratch's of_y. */
static void backward(const Program *program, Memory *memory, const real *row, int64_t B, int64_t n,
                     Penalties penalties, int drops, real *gradients) {
    const int penalised = is_penalised(penalties);
    for (int64_t index = program->n_layers - 1; index >= 0; index--) {
        const Job job = job_of(program, memory, row, index, B, n);
        const Layer *l = job.layer;
        if (penalised && has_curves(l->kind)) {
            const int64_t I = l->n_inputs, O = l->n_outputs;
            if (l->kind == EDGE) pull(job.pass->amplitudes, O, I, I, penalties);
            else if (is_product(l->kind)) pull(job.pass->amplitudes, I, O, l->n_padded, penalties);
            else pull(job.pass->amplitudes, O, 1, 1, penalties);
        }
        if (l->kind == WORDS) words_backward(&job, gradients);
        else if (l->kind == EDGE) edges_backward(&job, penalised, gradients);
        else if (is_product(l->kind)) product_backward(&job, index > 0, penalised, gradients);
        else nodes_backward(&job, index > 0, penalised, gradients);
        if (index == 0) return;
        const Job below = job_of(program, memory, row, index - 1, B, n);
        between_backward(&below, drops && below.layer->drops, memory->scratch.of_x, memory->scratch.of_y, gradients);
    }
}

/* The summed loss of some rows, and the gradients of their mean with all penalties. */
static double learn(const Program *program, Memory *memory, const real *row, const Data *data, const int64_t *rows,
                    int64_t n, Penalties penalties, Dropout dropout, real *gradients) {
    const int64_t B = filled(n, ROW_MULTIPLE), last = program->n_layers - 1, C = program->layers[last].n_outputs;
    Scratch *scratch = &memory->scratch;
    gather(program->layers[0].n_inputs, data->train_x, data->n_train, rows, n, B, memory->passes[0].x);
    Targets targets = {0};
    if (data->train_classes) {
        for (int64_t r = 0; r < n; r++) memory->classes[r] = data->train_classes[rows[r]];
        targets.classes = memory->classes;
    } else {
        for (int64_t r = 0; r < n; r++) memory->numbers[r] = data->train_numbers[rows[r]];
        targets.numbers = memory->numbers;
    }
    if (data->train_weights) {
        for (int64_t r = 0; r < n; r++) memory->weights[r] = data->train_weights[rows[r]];
        targets.weights = memory->weights;
    }
    forward(program, memory, row, B, n, 1, is_penalised(penalties), dropout);
    const double total = loss(C, B, n, memory->passes[last].y, targets, scratch->of_y, scratch->nodes);
    backward(program, memory, row, B, n, penalties, dropout.uniforms != 0, gradients);
    return total;
}

/* --- Adam --------------------------------------------------------------------------------------------------------- */

static const double BETA_1 = 0.9, BETA_2 = 0.999, EPSILON = 1e-8;

/* What one step does to some numbers: `kept` is the share that decoupled decay leaves, `pulled` the weight of L2.

   Source: Kingma & Ba (2015), arXiv:1412.6980, algorithm 1; the decay of Loshchilov & Hutter (2019), arXiv:1711.05101. */
static void move(int64_t n, real size, real floor_, real kept, real pulled, const real *restrict gradients,
                 real *restrict first, real *restrict second, real *restrict row) {
    const real kept_1 = BETA_1, kept_2 = BETA_2;
    ROWS for (int64_t i = 0; i < n; i++) {
        const real w = row[i] * kept, g = gradients[i] + pulled * row[i];
        const real mean = first[i] + (1 - kept_1) * (g - first[i]), square = kept_2 * second[i] + (1 - kept_2) * g * g;
        first[i] = mean;
        second[i] = square;
        row[i] = w - size * mean / (root(square) + floor_);
    }
}

static void adam(const Program *program, const Plan *plan, State *state, const uint8_t *is_free, const double *rates) {
    for (int64_t g = 0; g < program->n_groups; g++) state->ages[g] += is_free[g];
    for (int64_t s = 0; s < program->n_segments; s++) {
        const Segment *segment = program->segments + s;
        if (!is_free[segment->group]) continue;
        const double rate = rates[segment->group], age = state->ages[segment->group];
        const double root_ = sqrt(1 - pow(BETA_2, age)), size = rate * root_ / (1 - pow(BETA_1, age));
        const double decay = segment->decayed ? plan->decay : 0;
        const double kept = plan->decoupled ? 1 - rate * decay : 1, pulled = plan->decoupled ? 0 : decay;
        for (int64_t piece = 0; piece < segment->count; piece++) {
            const int64_t at = segment->begin + piece * segment->apart;
            move(segment->size, size, EPSILON * root_, kept, pulled, state->gradients + at, state->first + at,
                 state->second + at, state->row + at);
        }
    }
}

/* --- epochs ------------------------------------------------------------------------------------------------------- */

/* Summed loss on the validation rows, and the outputs there. */
static double look(const Program *program, Memory *memory, const real *row, const Data *data, real *outputs) {
    const int64_t n_all = data->n_validation, last = program->n_layers - 1, C = program->layers[last].n_outputs;
    double total = 0;
    const int64_t size = filled(program->batch_size, ROW_MULTIPLE);
    for (int64_t begin = 0; begin < n_all; begin += size) {
        const int64_t n = n_all - begin < size ? n_all - begin : size;
        const int64_t B = filled(n, ROW_MULTIPLE);
        for (int64_t i = 0; i < program->layers[0].n_inputs; i++) {
            real *x = memory->passes[0].x + i * B;
            memcpy(x, data->validation_x + i * n_all + begin, n * sizeof(real));
            memset(x + n, 0, (B - n) * sizeof(real));
        }
        forward(program, memory, row, B, n, 0, 0, (Dropout){0});
        const real *y = memory->passes[last].y;
        for (int64_t o = 0; o < C; o++) memcpy(outputs + o * n_all + begin, y + o * B, n * sizeof(real));
        const Targets targets = {data->validation_classes ? data->validation_classes + begin : 0,
                                 data->validation_numbers ? data->validation_numbers + begin : 0,
                                 data->validation_weights ? data->validation_weights + begin : 0};
        total += loss(C, B, n, y, targets, 0, memory->scratch.nodes);
    }
    return total;
}

/* Numbers too small to be normal are taken for 0 while a call lasts: they are slow, and nothing rests on them. */
#if defined(__x86_64__)
enum { FLUSH = 0x8040 };
static unsigned flush(void) {
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | FLUSH);
    return before;
}
static void restore(unsigned before) { _mm_setcsr(before); }
#else
static unsigned flush(void) { return 0; }
static void restore(unsigned before) { (void)before; }
#endif

int64_t trainer_version(void) { return VERSION; }

/* Train; returns the epochs that came to their end: fewer than planned where a loss is no finite number any more, or
   patience is at its end; none where only some steps of one were asked for. */
int64_t trainer_train(const Program *program, char *bytes, const Data *data, const Plan *plan, State *state,
                      int64_t n_numbers) {
    const unsigned before = flush();
    Memory memory;
    lay_out(program, bytes, &memory);
    const Penalties penalties = {plan->l1, plan->entropy};
    const int64_t size = program->batch_size, n_train = data->n_train;
    const int64_t end_step = plan->first_step + plan->n_steps;
    int64_t epoch = 0;
    for (int goes_on = 1; goes_on && epoch < plan->n_epochs; epoch++) {
        double *losses = state->losses + 2 * epoch;
        for (int64_t step = plan->first_step; step < end_step; step++) {
            const int64_t begin = step * size, n = n_train - begin < size ? n_train - begin : size;
            const int64_t planned = epoch * plan->n_steps + step - plan->first_step;
            const Dropout dropout = {plan->uniforms, planned, plan->n_drawn, plan->keep};
            state->total += learn(program, &memory, state->row, data, plan->order + epoch * n_train + begin, n, penalties,
                                  dropout, state->gradients);
            adam(program, plan, state, plan->free + epoch * program->n_groups,
                 plan->rates + planned * program->n_groups);
        }
        if (end_step * size < n_train) break;
        losses[0] = state->total / n_train;
        state->total = 0;
        losses[1] = look(program, &memory, state->row, data, state->outputs) / data->n_validation;
        goes_on = isfinite(losses[0]) && isfinite(losses[1]);
        if (!goes_on || !plan->patience) continue;
        state->n_since_best++;
        if (losses[1] < state->best_loss) {
            state->best_loss = losses[1];
            state->n_since_best = 0;
            memcpy(state->best, state->row, n_numbers * sizeof(real));
        }
        goes_on = state->n_since_best < plan->patience;
    }
    restore(before);
    return epoch;
}

/* The mean loss of some rows; and the gradients, with all penalties, of one batch. */
double trainer_gradients(const Program *program, char *bytes, const Data *data, const Plan *plan, State *state,
                         const int64_t *rows, int64_t n) {
    Memory memory;
    lay_out(program, bytes, &memory);
    const Penalties penalties = {plan->l1, plan->entropy};
    const Dropout dropout = {plan->uniforms, 0, plan->n_drawn, plan->keep};
    return learn(program, &memory, state->row, data, rows, n, penalties, dropout, state->gradients) / n;
}

/* Outputs (O n_validation) for the validation rows, and their mean loss. */
double trainer_look(const Program *program, char *bytes, const Data *data, State *state) {
    const unsigned before = flush();
    Memory memory;
    lay_out(program, bytes, &memory);
    const double total = look(program, &memory, state->row, data, state->outputs);
    restore(before);
    return total / data->n_validation;
}
