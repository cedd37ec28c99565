/* How wide the vectors of this processor are. */

/* The place in kansearch/compiled/trainer.py's LEVELS of the highest level that runs here. */
int kansearch_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
#if defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
    const int has_avx2 = __builtin_cpu_supports("x86-64-v3"), has_avx512 = __builtin_cpu_supports("x86-64-v4");
#else /* compilers that do not know these levels by name: by what few processors have without the rest */
    const int has_avx2 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const int has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                           __builtin_cpu_supports("avx512vl");
#endif
    return has_avx2 && has_avx512 ? 0 : has_avx2 ? 1 : 2;
#else
    return 2;
#endif
}
