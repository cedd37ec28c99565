/* The base functions, each with its slope. */

#ifndef KANSEARCH_FUNCTIONS_H
#define KANSEARCH_FUNCTIONS_H

#include "numbers.h"

typedef struct {
    real value, slope;
} Point;

#if IS_FLOAT
/* To 2 units of the last place; the polynomial is that of the Cephes library. */
INLINE real exponential(real x) {
    x = at_least(-87.0f, x);
    x = at_most(88.0f, x);
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    int32_t exponent = ((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &exponent, sizeof power);
    return (p * r * r + r + 1.0f) * power;
}

/* Half turns are taken off in three parts of pi; exact to 1e-7 up to |x| = 10,000. Where so little is left of the phase
   that what remains is no half turn, it is cut off: the values stay within -1 and 1. */
INLINE Point sine(real x) {
    float n = rintf(x * 0.318309886f);
    float r = x - n * 3.140625f - n * 9.67502593994140625e-4f - n * 1.509957990978376432e-7f;
    r = at_least(-1.6f, r);
    r = at_most(1.6f, r);
    float q = r * r;
    float s = -2.50521084e-8f;
    s = s * q + 2.75573192e-6f;
    s = s * q - 1.98412698e-4f;
    s = s * q + 8.33333333e-3f;
    s = s * q - 1.66666667e-1f;
    s = s * q * r + r;
    float c = 2.08767570e-9f;
    c = c * q - 2.75573192e-7f;
    c = c * q + 2.48015873e-5f;
    c = c * q - 1.38888889e-3f;
    c = c * q + 4.16666667e-2f;
    c = c * q - 0.5f;
    c = c * q + 1.0f;
    float half_turns = 0.5f * n;
    float sign = half_turns == rintf(half_turns) ? 1.0f : -1.0f; /* as a whole number n may not fit */
    return (Point){sign * s, sign * c};
}

/* The normal distribution's share above |x|, by Abramowitz and Stegun's 7.1.26: exact to 1e-7. */
INLINE real normal_tail(real x, real density) {
    float t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * fabsf(x));
    float tail = 1.061405429f;
    tail = tail * t - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = tail * t + 0.254829592f;
    return 0.5f * t * density * tail;
}
#else
INLINE real exponential(real x) { return exp(x); }
INLINE Point sine(real x) { return (Point){sin(x), cos(x)}; }
INLINE real normal_tail(real x, real density) {
    (void)density;
    return 0.5 * erfc(fabs(x) * 0.70710678118654752440);
}
#endif

INLINE Point gaussian(real x) {
    const real y = exponential(-x * x);
    return (Point){y, -2 * x * y};
}

INLINE Point mexican_hat(real x) {
    const real squares = x * x, y = exponential((real)-0.5 * squares);
    return (Point){(1 - squares) * y, x * (squares - 3) * y};
}

INLINE Point relu_bump(real x) {
    const real inside = at_least(0, 1 - x * x);
    return (Point){inside * inside, -4 * x * inside};
}

INLINE Point sigmoid(real x) {
    const real y = 1 / (1 + exponential(-x));
    return (Point){y, y * (1 - y)};
}

INLINE Point hyperbolic_tangent(real x) {
    const real y = 2 / (1 + exponential(-2 * x)) - 1;
    return (Point){y, 1 - y * y};
}

INLINE Point relu(real x) { return (Point){at_least(0, x), x > 0 ? (real)1 : (real)0}; }

INLINE Point silu(real x) {
    const real s = 1 / (1 + exponential(-x));
    return (Point){x * s, s + x * s * (1 - s)};
}

/* x Phi(x). */
INLINE Point gelu(real x) {
    const real density = exponential((real)-0.5 * x * x), tail = normal_tail(x, density);
    const real below = x < 0 ? tail : 1 - tail;
    return (Point){x * below, below + (real)0.39894228040143267794 * x * density};
}

/* The cubic B-spline with knots -2, -1, 0, 1, 2. */
INLINE Point cubic_b_spline(real x) {
    const real wide = at_least(0, 2 - magnitude(x)), narrow = at_least(0, wide - 1);
    const real slope = 2 * narrow * narrow - (real)0.5 * wide * wide;
    return (Point){(wide * wide * wide - 4 * narrow * narrow * narrow) * (real)(1.0 / 6), x < 0 ? -slope : slope};
}

/* The quadratic B-spline with knots -1.5, -0.5, 0.5, 1.5. */
INLINE Point quadratic_b_spline(real x) {
    const real wide = at_least(0, (real)1.5 - magnitude(x)), narrow = at_least(0, wide - 1);
    const real slope = 3 * narrow - wide;
    return (Point){(wide * wide - 3 * narrow * narrow) * (real)0.5, x < 0 ? -slope : slope};
}

/* The linear B-spline with knots -1, 0, 1. */
INLINE Point linear_b_spline(real x) {
    const real inside = at_least(0, 1 - magnitude(x));
    return (Point){inside, inside > 0 ? (x < 0 ? (real)1 : (real)-1) : (real)0};
}

INLINE Point identity(real x) { return (Point){x, 1}; }

/* All of them, in the order of kansearch/compiled/trainer.py. */
#define EVERY_FUNCTION(DO)                                                                                             \
    DO(gaussian) DO(mexican_hat) DO(relu_bump) DO(sigmoid) DO(hyperbolic_tangent) DO(relu) DO(silu) DO(gelu) DO(sine)  \
    DO(cubic_b_spline) DO(quadratic_b_spline) DO(linear_b_spline) DO(identity)

#endif
