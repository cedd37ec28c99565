/* One step of Adam for many trials, in one pass over memory; see curves.c for what holds here too. */

#include "compiled.h"
#include "numbers.h"

/* Numbers of one trial that share their rates. `real` (may be missing): 1 for numbers that move, 0 for others. */
FOR_EVERY_CPU static void move(long n, float size, float floor_, float kept_1, float kept_2, const float *restrict real,
                               const float *restrict gradients, float *restrict first, float *restrict second,
                               float *restrict weights) {
    if (real) {
        ROWS for (long i = 0; i < n; i++) {
            const float g = gradients[i];
            first[i] += (1.0f - kept_1) * (g - first[i]);
            second[i] = kept_2 * second[i] + (1.0f - kept_2) * g * g;
            weights[i] -= real[i] * size * first[i] / (sqrtf(second[i]) + floor_);
        }
    } else {
        ROWS for (long i = 0; i < n; i++) {
            const float g = gradients[i];
            first[i] += (1.0f - kept_1) * (g - first[i]);
            second[i] = kept_2 * second[i] + (1.0f - kept_2) * g * g;
            weights[i] -= size * first[i] / (sqrtf(second[i]) + floor_);
        }
    }
}

/* sizes: P trials, N numbers, S segments, G rates of each trial; segments: S times (begin, end, which rate);
   step_sizes, floors: P G; all others: P N. */
void adam_step(const long *sizes, const long *segments, const float *betas, const float *step_sizes,
               const float *floors, const float *real, const float *gradients, float *first, float *second,
               float *weights) {
    const long P = sizes[0], N = sizes[1], S = sizes[2], G = sizes[3];
    for (long p = 0; p < P; p++)
        for (long s = 0; s < S; s++) {
            const long *segment = segments + 3 * s, begin = p * N + segment[0];
            move(segment[1] - segment[0], step_sizes[p * G + segment[2]], floors[p * G + segment[2]], betas[0],
                 betas[1], real ? real + begin : 0, gradients + begin, first + begin, second + begin, weights + begin);
        }
}
